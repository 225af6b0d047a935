package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"registrar/internal/servertest"
)

const (
	predictionPort = 8000
	// predictionPatience bounds the start of the Prediction API, which imports MLflow and scikit-learn and downloads the model.
	predictionPatience = 2 * time.Minute
)

// scoreApplications is what all this is for: a Prediction API, which knows nothing but the registry, scores raw applications.
func (d *demo) scoreApplications(ctx context.Context) error {
	return d.steps.talking("score raw applications by a Prediction API", func() error {
		applications, err := os.ReadFile(filepath.Join(d.root, "examples", "credit-risk", "applications.json"))
		if err != nil {
			return err
		}
		port, err := d.portOr(predictionPort)
		if err != nil {
			return err
		}
		api, err := d.startPredictionAPI(port)
		if err != nil {
			return err
		}
		defer api.Stop()
		url := fmt.Sprintf("http://127.0.0.1:%d", port)
		if err := awaitPredictionAPI(ctx, url, api); err != nil {
			return err
		}
		answer, err := ask(ctx, http.MethodPost, url+"/predict", applications)
		if err != nil {
			return err
		}
		fmt.Printf("POST %s/predict, the API was started with nothing but %s\n", url, d.stagedModel())
		return printScores(applications, answer)
	})
}

// stagedModel is how consumers call the version that is in use.
func (d *demo) stagedModel() string { return "models:/" + d.receipt.ModelName + "/" + d.receipt.Stage }

func (d *demo) startPredictionAPI(port int) (*servertest.Process, error) {
	return servertest.StartProcess(servertest.Command{
		Name: "prediction API", Path: d.python,
		Args: []string{
			"-W", "ignore", filepath.Join(d.root, "examples", "credit-risk", "predict_api.py"),
			"--model", d.stagedModel(), "--port", strconv.Itoa(port),
		},
		Dir: d.state, Env: d.environment(), Log: filepath.Join(d.state, "predict_api.log"),
	})
}

func awaitPredictionAPI(ctx context.Context, url string, api *servertest.Process) error {
	ctx, cancel := context.WithTimeout(ctx, predictionPatience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := ask(ctx, http.MethodGet, url+"/health", nil)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-api.Done():
			return fmt.Errorf("the Prediction API ended by itself; the end of its log:\n%s", api.Logs())
		case <-ctx.Done():
			return fmt.Errorf("the Prediction API does not answer: %w; the end of its log:\n%s", errors.Join(ctx.Err(), err), api.Logs())
		}
	}
}

func ask(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, url, response.Status, answer)
	}
	return answer, err
}

// printScores shows each application as it was asked for, its gaps too, beside what was answered.
func printScores(applications, answer []byte) error {
	var asked struct {
		Rows []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal(applications, &asked); err != nil {
		return err
	}
	var scores struct {
		Model       string `json:"model"`
		Version     string `json:"version"`
		Predictions []struct {
			DefaultProbability float64 `json:"default_probability"`
			Decision           string  `json:"decision"`
		} `json:"predictions"`
	}
	if err := json.Unmarshal(answer, &scores); err != nil {
		return err
	}
	if len(scores.Predictions) != len(asked.Rows) {
		return fmt.Errorf("%d applications were asked for, %d answered", len(asked.Rows), len(scores.Predictions))
	}
	fmt.Printf("answered by %s version %s:\n\n", scores.Model, scores.Version)
	columns := []string{"person_income", "person_home_ownership", "loan_intent", "loan_grade", "loan_amnt", "loan_int_rate"}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  "+strings.Join(columns, "\t")+"\tdefault probability\tdecision")
	for i, row := range asked.Rows {
		fmt.Fprint(w, "  ")
		for _, column := range columns {
			value := row[column]
			if value == nil {
				value = "(missing)"
			}
			fmt.Fprintf(w, "%v\t", value)
		}
		fmt.Fprintf(w, "%.3f\t%s\n", scores.Predictions[i].DefaultProbability, scores.Predictions[i].Decision)
	}
	return w.Flush()
}
