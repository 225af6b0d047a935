package e2e

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
)

// A project that was made to hang its worker, or to fill its memory, is told what is wrong with it. The workflow is started by hand: the starter, which
// sees the same, is not there to stop it.
func TestTrust_NoFileHangsOrFillsTheWorker(t *testing.T) {
	t.Parallel()
	pipe := func(name string) func(*testing.T, project) {
		return func(t *testing.T, p project) {
			require.NoError(t, os.RemoveAll(p.path(name)))
			require.NoError(t, syscall.Mkfifo(p.path(name), 0o600))
		}
	}
	huge := func(name string) func(*testing.T, project) {
		return func(t *testing.T, p project) {
			file, err := os.OpenFile(p.path(name), os.O_CREATE|os.O_WRONLY, 0o600)
			require.NoError(t, err)
			require.NoError(t, file.Truncate(1<<40)) // sparse: it takes no room on the disk
			require.NoError(t, file.Close())
		}
	}
	device := func(name string) func(*testing.T, project) {
		return func(t *testing.T, p project) {
			require.NoError(t, os.RemoveAll(p.path(name)))
			require.NoError(t, os.Symlink("/dev/zero", p.path(name)))
		}
	}
	for name, hostile := range map[string]struct {
		make func(*testing.T, project)
		says string
	}{
		"config_is_a_pipe":    {pipe(configFile), configFile},
		"params_is_a_pipe":    {pipe(paramsFile), paramsFile},
		"metrics_is_a_pipe":   {pipe(metricsFile), metricsFile},
		"model_is_a_pipe":     {pipe(modelFile), modelFile},
		"dotenv_is_a_pipe":    {pipe(".env"), ".env"},
		"outputs_is_a_pipe":   {pipe(outputs), outputs},
		"config_is_a_device":  {device(configFile), configFile},
		"metrics_is_a_device": {device(metricsFile), metricsFile},
		"model_is_a_device":   {device(modelFile), modelFile},
		"config_is_huge":      {huge(configFile), configFile},
		"params_is_huge":      {huge(paramsFile), paramsFile},
		"metrics_is_huge":     {huge(metricsFile), metricsFile},
		"dotenv_is_huge":      {huge(".env"), ".env"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, gateway := gatedSite(t)
			hostile.make(t, s.project)
			s.startWorker()

			r := s.startByHand("hostile/"+nameOf(t), map[string]any{"root": s.project.root})

			s.requireOutcome(receipt.Failed, r)
			require.Contains(t, r.Error, hostile.says)
			require.Empty(t, gateway.requests())
		})
	}
}
