package protocol

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var everyRule = flag.Bool("rules", false, "leave out every rule of the protocol, one after the other, instead of a few")

// rule is a rule of the protocol, and the edits of the production code that leave it out. The example of its name must then violate a
// property.
type rule struct {
	name     string
	violates string // the property, as a regular expression
	edits    []edit
}

// edit replaces a text that is in a file exactly once.
type edit struct{ file, old, new string }

var rules = []rule{
	{"adopt by generation", "P5", []edit{{
		"activities/search.go",
		"	return isOwn(tags, owner) && tag(tags, TagGeneration) == owner.Generation\n",
		"	return isOwn(tags, owner)\n",
	}}},
	{"sweep by generation", "P2", []edit{{
		"activities/sweep.go",
		"	return err == nil && isOwn(tags, s.in.Owner) && started <= s.in.Owner.StartedAt\n",
		"	return err == nil && isOwn(tags, s.in.Owner) && started > 0\n",
	}}},
	{"condemn before the fence", "P2", []edit{{
		"activities/register_version.go",
		"		if time.Now().After(deadline) {\n			return LookForVersionResult{}, nil\n",
		"		if time.Now().After(deadline) {\n			return LookForVersionResult{}, classify(ctx, fence(ctx, client, FenceLoggedModelsInput{Owner: in.Owner}," +
			" loggedModelOf(mlflow.ModelVersion{Source: in.Source})))\n",
	}}},
	{"write-once decision", "P2", []edit{{
		"activities/look_up.go",
		"		if isOwn(v.Tags, in.Owner) && decisions[v.RunID] == v.Version {\n",
		"		if isOwn(v.Tags, in.Owner) && decisions[v.RunID] != \"\" {\n",
	}}},
	{"only what was decided on counts", "P[1-5]", []edit{{
		"activities/look_up.go",
		"	if err := closeUndecided(ctx, client, earlier, goesOn); err != nil {\n",
		"	if err := closeUndecided(ctx, client, nil, goesOn); err != nil {\n",
	}}},
	{"fence of earlier generations, and a second pass of the sweep", "P1", []edit{
		{
			"workflows/register_model.go",
			"r.fenceEarlier(ctx, r.found.Unversioned)",
			"r.fenceEarlier(ctx, nil)",
		},
		{"activities/sweep.go", "	for range 2 {\n", "	for range 1 {\n"},
	}},
	{"one create for a logged model", "T", []edit{{
		"workflows/register_model.go",
		"		if err := r.condemn(ctx); err != nil {\n			return err\n		}\n",
		"		_ = r.condemn\n",
	}}},
	{"the fence deletes what came before it", "T", []edit{{
		"activities/register_version.go",
		"	for _, v := range ofModel(versions, modelID) {\n",
		"	for _, v := range ofModel(nil, modelID) {\n",
	}}},
	{"settle on MLflow 2", "T", []edit{{
		"workflows/steps.go",
		"	if !r.health.LoggedModels {\n",
		"	if false {\n",
	}}},
	{"record before delete", "P2", []edit{{
		"activities/log_run.go",
		"		if isOfGeneration(r.Data.Tags, owner) {\n			return &runs[i], nil\n		}\n",
		"		if isOfGeneration(r.Data.Tags, owner) && r.Info.RunID == runs[len(runs)-1].Info.RunID {\n			return &runs[i], nil\n		}\n" +
			"		if err := client.DeleteRun(ctx, r.Info.RunID); err != nil {\n			return nil, err\n		}\n",
	}}},
	{"spare what a person left", "P2", []edit{{
		"activities/look_up.go",
		"		wasReturned := decision != \"\" && decision != NoVersion\n",
		"		wasReturned := decision == \"?\"\n",
	}}},
	{"own decision first", "P1", []edit{{
		"activities/look_up.go",
		"	if v := firstCompleted(versions, in.Owner, true); v != nil {\n",
		"	if v := firstCompleted(versions, in.Owner, false); v != nil {\n		return completed(ctx, client, *v)\n	}\n" +
			"	if v := firstCompleted(versions, in.Owner, true); v != nil {\n",
	}}},
	{"of others only what is completed", "P2", []edit{{
		"activities/look_up.go",
		"		if tag(v.Tags, TagCompleted) != \"\" && own == ",
		"		if (tag(v.Tags, TagCompleted) != \"\" || !own) && own == ",
	}}},
	{"completed last", "P3", []edit{{
		"workflows/register_model.go",
		"	err := r.promote(d)\n	if err == nil {\n		err = r.finishRun(d, activities.RunFinished)\n	}\n",
		"	err := r.finishRun(d, activities.RunFinished)\n	if err == nil {\n		err = r.promote(d)\n	}\n",
	}}},
	{"no archive flag", "P3s", []edit{{
		"activities/promote_version.go",
		"TransitionModelVersionStage(ctx, in.ModelName, in.Version, Stage, false)",
		"TransitionModelVersionStage(ctx, in.ModelName, in.Version, Stage, true)",
	}}},
	{"second look at a promotion", "P3", []edit{{
		"workflows/promote_versions.go",
		"	if open || reply.Result.Doubtful {\n",
		"	if false {\n",
	}}},
	{"forwards only", "P(3s?|5)", []edit{{
		"activities/promote_version.go",
		"; newer != \"\" {\n",
		"; newer == \"?\" {\n",
	}}},
	{"one promotion at a time", "P3", []edit{{
		"workflows/steps.go",
		"		reply, err := r.requestPromotion(ctx)\n		promoted = reply.Result\n		return firstOf(err, reply.err())\n",
		"		in := activities.PromoteVersionInput{Server: r.server, ModelName: r.receipt.ModelName, Version: r.receipt.ModelVersion}\n" +
			"		return workflow.ExecuteActivity(with(ctx, onMLflow, \"\"), a.PromoteVersion, in).Get(ctx, &promoted)\n",
	}}},
	{"sweep", "P1", []edit{{
		"workflows/registration.go",
		"	if leftovers.isNeeded() || r.doubtful {\n",
		"	if leftovers.isNeeded() {\n",
	}}},
	{"sweep after what was started again", "P1", []edit{{
		"workflows/steps.go",
		"	r.doubtful = r.doubtful || r.found.Earlier || r.in.Again || r.repeats\n",
		"",
	}}},
	{"leave the run of what was started again", "P5", []edit{{
		"activities/look_up.go",
		" || goesOn(tag(r.Data.Tags, TagGeneration)) {\n",
		" {\n",
	}}},
	{"sweep only what is one's own", "P4", []edit{{
		"activities/sweep.go",
		"	return err == nil && isOwn(tags, s.in.Owner) && started",
		"	return err == nil && started",
	}}},
	{"spare what has an alias or a stage", "P4", []edit{{
		"activities/register_version.go",
		"	if len(current.Aliases) > 0 || current.CurrentStage != mlflow.StageNone {\n",
		"	if false && len(current.Aliases) > 0 {\n",
	}}},
	{"spare what is decided on", "P2", []edit{{
		"activities/sweep.go",
		"	if param(run.Data.Params, ParamVersion) == v.Version {\n",
		"	if param(run.Data.Params, ParamVersion) == \"?\" {\n",
	}}},
}

// few are the rules that are left out in every test run.
var few = []string{"condemn before the fence", "second look at a promotion"}

// TestRules_AreNeeded leaves the rules of the protocol out: without any of them its example violates a property.
func TestRules_AreNeeded(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			if !*everyRule && !slices.Contains(few, r.name) {
				t.Skip("one of those that -rules, or `make rules`, leaves out")
			}
			require.Contains(t, examples, r.name)
			output, err := playExample(t, r.name, overlay(t, r.edits))
			require.Error(t, err, "nothing is violated without the rule")
			require.Regexp(t, `\b`+r.violates+`: `, output)
			t.Log(regexp.MustCompile(`\b(P[1-5]s?|T): .*`).FindString(output))
		})
	}
}

func TestRules_HaveAnExampleEach(t *testing.T) {
	require.Len(t, examples, len(rules))
}

// playExample runs an example in the edited program.
func playExample(t *testing.T, name, overlay string) (output string, err error) {
	t.Helper()
	pattern := fmt.Sprintf("^TestProtocol_HoldsInTheExamples$/^%s$", regexp.QuoteMeta(strings.ReplaceAll(name, " ", "_")))
	command := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-run", pattern, ".")
	combined, err := command.CombinedOutput()
	return string(combined), err
}

// overlay is a file for `go test -overlay`, with the edited files in the place of the real ones.
func overlay(t *testing.T, edits []edit) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	dir := t.TempDir()
	replace := map[string]string{}
	for i, e := range edits {
		path := filepath.Join(root, filepath.FromSlash(e.file))
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(content), e.old),
			"%s does not hold this text once, which leaving the rule out would replace; adapt the rule:\n%s", e.file, e.old)
		edited := filepath.Join(dir, fmt.Sprintf("%d-%s", i, filepath.Base(e.file)))
		require.NoError(t, os.WriteFile(edited, []byte(strings.Replace(string(content), e.old, e.new, 1)), 0o600))
		replace[path] = edited
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	file := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	return file
}
