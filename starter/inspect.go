package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"registrar/internal/confine"
	"registrar/internal/modelfile"
)

func (s *starter) inspectCommand() *cobra.Command {
	var policy modelfile.Policy
	command := &cobra.Command{
		Use:   "inspect MODEL_FILE",
		Short: "Tell what a model file says of itself",
		Long: `Reads a joblib or pickle file as data, without importing or calling anything, and tells what is in it, and whether it may be loaded.

A file that would be refused exits 0 all the same: see its verdict.`,
		Example: "  starter inspect artifacts/model_trainer/acras_rf_model.joblib\n  starter inspect --allow my_package.transform.Clip --output json artifacts/model_trainer/acras_rf_model.joblib",
		Args:    cobra.ExactArgs(1),

		ValidArgsFunction: filesEndingIn("joblib", "pkl", "pickle"),
		RunE: func(command *cobra.Command, args []string) error {
			if err := policy.Check(); err != nil {
				return usageError{fmt.Errorf("--pickle-policy: %w", err)}
			}
			info, err := inspect(command.Context(), args[0])
			if err != nil {
				return err
			}
			info = policy.Judge(info)
			if s.output == "json" {
				return s.printJSON(info)
			}
			return s.printInfo(info)
		},
	}
	flags := command.Flags()
	flags.StringVar(&policy.Mode, "pickle-policy", modelfile.PolicyStrict, "strict, deny or off, as model_registration.pickle_policy")
	flags.StringSliceVar(&policy.Allowed, "allow", nil, "names that may be imported all the same, as model_registration.allowed_globals")
	return command
}

func inspect(ctx context.Context, name string) (modelfile.Info, error) {
	dir, err := confine.Unconfined(".")
	if err != nil {
		return modelfile.Info{}, err
	}
	defer dir.Close()
	f, err := dir.Open(name)
	if err != nil {
		return modelfile.Info{}, err
	}
	defer f.Close()
	info, err := modelfile.Inspect(ctx, f)
	if format, ok := errors.AsType[*modelfile.FormatError](err); ok {
		return modelfile.Info{}, fmt.Errorf("%s: %w: want a model written by joblib.dump, with or without compression, or by pickle.dump", name, format)
	}
	if err != nil {
		return modelfile.Info{}, fmt.Errorf("%s: %w", name, err)
	}
	return info, nil
}

func (s *starter) printInfo(info modelfile.Info) error {
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", printable(name), printable(value)) // a model says what its author likes
		}
	}
	row("verdict", string(info.Verdict))
	for _, reason := range info.Reasons {
		row("reason", reason.String())
	}
	row("class", info.RootClass)
	for _, step := range info.Steps {
		row("step "+step.Name, step.Class)
	}
	row("scikit-learn", info.SklearnVersion)
	row("numpy", info.NumpyVersion)
	if info.NFeaturesIn > 0 {
		row("features", strings.TrimSpace(fmt.Sprintf("%d %s", info.NFeaturesIn, shortList(info.FeatureNamesIn))))
	}
	row("classes", strings.TrimSpace(shortList(info.Classes)+" "+info.ClassesType))
	for _, name := range slices.Sorted(maps.Keys(info.Params)) {
		row("  "+name, info.Params[name])
	}
	row("format", info.Format)
	row("compression", info.Compression)
	row("pickle protocol", strconv.Itoa(info.PickleProtocol))
	row("size", fmt.Sprintf("%d bytes", info.SizeBytes))
	row("SHA-256", info.SHA256)
	row("modules", strings.Join(info.Modules, ", "))
	for i, name := range info.Globals {
		row(map[bool]string{true: "names", false: " "}[i == 0], name)
	}
	return w.Flush()
}

// shortList shows the first few, enough to recognize them.
func shortList(names []string) string {
	const shown = 12
	if len(names) > shown {
		return "(" + strings.Join(names[:shown], ", ") + ", …)"
	}
	if len(names) == 0 {
		return ""
	}
	return "(" + strings.Join(names, ", ") + ")"
}
