package e2e

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// planted is in every secret of these tests, so that one look finds each of them, whole or cut.
const planted = "PLANTED"

// TestSecrets_AreNowhere plants a secret in each input that may hold one, makes errors of it, and looks for it wherever something is kept or shown:
// Temporal's and MLflow's databases and logs, the artifacts, the worker's log, command line and metrics, the spans, what the starter says, and what was
// written into the project.
func TestSecrets_AreNowhere(t *testing.T) {
	t.Parallel()
	needServers(t)
	temporalDir := t.TempDir()
	temporal, err := servertest.StartTemporal(t.Context(), servertest.TemporalOptions{Dir: temporalDir, Headless: true})
	require.NoError(t, err)
	t.Cleanup(temporal.Stop)
	mlflow := mlflowServer(t)

	t.Run("planted", func(t *testing.T) { plantSecrets(t, temporal.HostPort, temporalDir, mlflow) }) // returns when all have ended

	requireNone(t, "Temporal", contents(t, temporalDir, nil))
	requireNone(t, "MLflow", contents(t, mlflow.Dir, isModel))
}

func plantSecrets(t *testing.T, hostPort, temporalDir string, mlflow *servertest.MLflowServer) {
	for name, plant := range map[string]struct {
		set  func(s *site, g *gateway)
		ends func(s *site, a answer)
	}{
		"user info in the URI": {
			func(s *site, g *gateway) {
				s.mlflowURI = strings.Replace(g.URI, "http://", "http://acras:PLANTED-URI@", 1)
				g.next("runs/create", fault{cutAfter: true})
			}, registered,
		},
		"a password": {
			func(s *site, g *gateway) {
				s.environ = []string{"MLFLOW_TRACKING_USERNAME=acras", "MLFLOW_TRACKING_PASSWORD=PLANTED-password"}
				g.next("registered-models/create", fault{echo: true})
			}, registered,
		},
		"a token that an error page quotes": {
			func(s *site, g *gateway) {
				s.environ = []string{"MLFLOW_TRACKING_TOKEN=PLANTED-token"}
				g.next("logged-models", fault{echo: true})
				g.next("model.pkl", fault{echo: true})
			}, registered,
		},
		"a token that is refused": {
			func(s *site, g *gateway) {
				s.environ = []string{"MLFLOW_TRACKING_TOKEN=PLANTED-refused"}
				for range twice {
					g.next("/", fault{echo: true, status: http.StatusUnauthorized})
				}
			}, failed("401"),
		},
		"a token in a file": {
			func(s *site, _ *gateway) {
				file := filepath.Join(s.t.TempDir(), "token")
				require.NoError(s.t, os.WriteFile(file, []byte("PLANTED-file"), 0o600))
				s.environ = []string{"MLFLOW_TRACKING_TOKEN_FILE=" + file}
			}, registered,
		},
		"a .env of the project": {
			func(s *site, g *gateway) {
				s.project.write(s.t, ".env", "MLFLOW_TRACKING_URI="+g.URI+"\nMLFLOW_TRACKING_USERNAME=acras\nMLFLOW_TRACKING_PASSWORD=PLANTED-dotenv\n")
				s.mlflowURI = ""
				g.next("runs/create", fault{echo: true})
			}, registered,
		},
		"user info in params.yaml": {
			func(s *site, g *gateway) {
				s.project.edit(s.t, paramsFile, "http://127.0.0.1:5000", strings.Replace(g.URI, "http://", "http://acras:PLANTED-params@", 1))
				s.mlflowURI = ""
			}, nil,
		},
		"a query in params.yaml": {
			func(s *site, g *gateway) {
				s.project.edit(s.t, paramsFile, "http://127.0.0.1:5000", g.URI+"/?token=PLANTED-query")
				s.mlflowURI = ""
			}, refused("params.yaml"),
		},
		"a redirect": {
			func(_ *site, g *gateway) {
				for range twice {
					g.next("experiments", fault{status: http.StatusFound, location: "http://acras:PLANTED-redirect@127.0.0.1:1/?token=PLANTED-redirect"})
				}
			}, nil,
		},
		"a file that is no configuration": {
			func(s *site, _ *gateway) {
				s.project.write(s.t, configFile, "PLANTED-yaml: [\nroot:PLANTED-shadow:19000\n")
			}, refused("config.yaml"),
		},
		"a file that is no metrics": {
			func(s *site, _ *gateway) { s.project.write(s.t, metricsFile, "root:PLANTED-shadow:19000\n") }, refused("metrics.json"),
		},
		"a file that is no model": {
			func(s *site, _ *gateway) { s.project.write(s.t, modelFile, "root:PLANTED-shadow:19000\n") }, refused("acras_rf_model.joblib"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, mlflow.URI)
			s := newSite(t, newProject(t), hostPort, g.URI)
			plant.set(s, g)
			spans := newSpanCollector(t)
			s.environ = append(s.environ, "OTEL_EXPORTER_OTLP_ENDPOINT="+spans.URL)
			metrics := unusedAddress(t)
			worker := s.startWorker("--log-level", "debug", "--http-listen", metrics)

			a := s.register("--wait", "final", "--timeout", patience.String())

			if plant.ends != nil {
				plant.ends(s, a)
			}
			commandLine, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", worker.PID()))
			require.NoError(t, err)
			shown := map[string]string{"starter": a.stdout + a.stderr, "worker": worker.Logs(), "command line": string(commandLine)}
			if a.receipt.WorkflowID != "" {
				status := s.starter("status", a.receipt.WorkflowID)
				shown["status"] = status.stdout + status.stderr
				require.Contains(t, contents(t, temporalDir, nil), a.receipt.WorkflowID, "the place where a secret would be")
			}
			shown["written"] = contents(t, s.project.path(outputs), isInput)
			eventually(t, func() bool { return s.health(metrics) == 0 }, "the worker is ready")
			shown["metrics"] = (&exposed{t: t, uri: "http://" + metrics + "/metrics"}).text()
			require.Contains(t, shown["metrics"], "registrar_build_info")
			worker.Stop()
			shown["spans"] = spans.received()
			if a.receipt.WorkflowID != "" {
				require.Contains(t, shown["spans"], "RunWorkflow:RegisterModel")
			}
			for place, text := range shown {
				requireNone(t, place, text)
			}
		})
	}
}

// twice meets a step that is tried within its workflow task, and then as an activity.
const twice = 2

func registered(s *site, a answer) { s.requireOutcome(receipt.Registered, a.receipt) }

// failed is a registration that ended in an error that names something.
func failed(with string) func(*site, answer) {
	return func(s *site, a answer) {
		s.requireOutcome(receipt.Failed, a.receipt)
		require.Contains(s.t, a.receipt.Error, with)
	}
}

// refused is an input that the starter itself does not take.
func refused(with string) func(*site, answer) {
	return func(s *site, a answer) {
		require.Equal(s.t, 1, a.code)
		require.Contains(s.t, a.stderr, with)
	}
}

// isInput tells a frozen copy of an input, which is what its owner wrote.
func isInput(path string) bool {
	return strings.HasSuffix(path, "params.yaml") || strings.HasSuffix(path, "config.yaml")
}

// isModel tells the large files, which are the projects' own models.
func isModel(path string) bool { return strings.HasPrefix(filepath.Base(path), "model.") }

// contents are the bytes of all files below a folder; skip may be nil.
func contents(t testing.TB, folder string, skip func(path string) bool) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // it was there when the folder was listed
		}
		if err != nil || !entry.Type().IsRegular() || skip != nil && skip(path) {
			return err
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		all.Write(data)
		return err
	})
	require.NoError(t, err)
	return all.String()
}

// requireNone shows no more of a place than what is around a secret: it may be a whole database.
func requireNone(t testing.TB, place, text string) {
	t.Helper()
	if at := strings.Index(text, planted); at >= 0 {
		require.Failf(t, "a secret is shown", "%s: %q", place, text[max(0, at-200):min(len(text), at+100)])
	}
}
