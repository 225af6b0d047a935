package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// answers is how many requests of the worker a server has answered, and how long the worker waited for them.
type answers struct {
	count  uint64
	waited time.Duration
}

// since is what came between two readings.
func since(before, after map[string]answers) map[string]answers {
	between := map[string]answers{}
	for server, a := range after {
		between[server] = answers{a.count - before[server].count, a.waited - before[server].waited}
	}
	return between
}

// answered reads the worker's own metrics: by server, requests to MLflow, and those to Temporal that are no long polls.
func (b *bench) answered(ctx context.Context) (map[string]answers, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.workerHTTP+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read the worker's metrics: %w", err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the worker's metrics: %w", err)
	}
	return map[string]answers{
		"MLflow":   sumOf(families["registrar_mlflow_request_duration_seconds"]),
		"Temporal": sumOf(families["temporal_request_latency_seconds"]),
	}, nil
}

// sumOf is over all series of a histogram; none are there before the first request.
func sumOf(histogram *dto.MetricFamily) answers {
	var all answers
	for _, m := range histogram.GetMetric() {
		all.count += m.GetHistogram().GetSampleCount()
		all.waited += time.Duration(m.GetHistogram().GetSampleSum() * float64(time.Second))
	}
	return all
}
