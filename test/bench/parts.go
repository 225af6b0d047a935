package main

import (
	"context"
	"fmt"
	"slices"

	"registrar/activities"
	"registrar/internal/servertest"
)

// inParts measures the memory of a worker that sends the large file in parts: a worker of its own, whose MLflow keeps its artifacts on an S3 server.
func (b *bench) inParts(ctx context.Context) error {
	p, err := b.newProject("large")
	if err != nil {
		return err
	}
	there := &bench{extent: b.extent, folder: b.folder, client: b.client, count: b.count}
	defer there.close()
	store, err := servertest.StartS3(ctx, servertest.S3Options{Dir: b.path("s3")})
	if err != nil {
		return err
	}
	there.ends = append(there.ends, store.Kill)
	if there.mlflow, err = servertest.StartMLflow(ctx, servertest.MLflowOptions{Dir: b.path("mlflow-s3"), S3: store}); err != nil {
		return err
	}
	there.ends = append(there.ends, there.mlflow.Kill)
	there.env = append(slices.Clone(b.env), "MLFLOW_TRACKING_URI="+there.mlflow.URI, "REGISTRAR_TASK_QUEUE=in-parts")
	if err := there.startWorker(ctx, "worker-in-parts"); err != nil {
		return err
	}
	s, _, err := there.registered(ctx, p)
	if err != nil {
		return err
	}
	asked, err := there.answered(ctx)
	if err != nil {
		return err
	}
	if parts := b.extent.largeBytes / activities.DefaultPartBytes; asked["MLflow"].count < uint64(parts) {
		return fmt.Errorf("%d requests for %d parts: the file was sent whole", asked["MLflow"].count, parts)
	}
	b.report.add("the same of one that sends it in parts, to an S3 server", megabytes(s.peakBytes), "", atMost(float64(s.peakBytes)/(1<<20), 64, " MiB"))
	return nil
}
