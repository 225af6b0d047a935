package activities

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"registrar/internal/mlflow"
)

const (
	// HistoryFile is the artifact of a run that shows how its version stands among the earlier ones.
	HistoryFile = "history.svg"
	// drawnVersions is how many versions the picture shows: more than that no eye tells apart.
	drawnVersions = 200
	// drawWithin is how long the picture may take, so that a server which answers nothing more holds up nothing.
	drawWithin = 5 * time.Second
)

// drawHistory puts a picture of the gate's metric over the versions, up to the one of in, beside its run, by one upload. It is no part of what is
// promised, so nothing depends on it: it writes one file of the registration's own run, by a request that may be repeated and may come late, and
// where that does not succeed it is logged, and that is all.
func drawHistory(ctx context.Context, client *mlflow.Client, in PromoteVersionInput, versions []mlflow.ModelVersion, aliases []mlflow.Alias) {
	if in.ArtifactURI == "" {
		return
	}
	within, cancel := context.WithTimeout(ctx, drawWithin)
	defer cancel()
	history := historyUpTo(in.Version, versions, aliases)
	picture := HistoryChart(in.ModelName, GateMetric(history), history).SVG()
	err := client.UploadArtifact(within, in.ArtifactURI, HistoryFile, int64(len(picture)), bytes.NewReader(picture))
	if err != nil {
		activity.GetLogger(ctx).Warn("no picture of the model's history", "model", in.ModelName, "version", in.Version, "error", err)
	}
}

// historyUpTo are the newest versions that are no newer than one of them, the newest first.
func historyUpTo(version string, versions []mlflow.ModelVersion, aliases []mlflow.Alias) []HistoricVersion {
	var history []HistoricVersion
	for _, v := range versions {
		if VersionNumber(v.Version) <= VersionNumber(version) {
			history = append(history, withAliases(asTagged(v), aliases))
		}
	}
	slices.SortFunc(history, func(a, b HistoricVersion) int { return cmp.Compare(VersionNumber(b.Version), VersionNumber(a.Version)) })
	return history[:min(len(history), drawnVersions)]
}
