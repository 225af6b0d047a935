package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/workflowservice/v1"

	"registrar/workflows"
)

// addCompletion adds the command that makes the scripts for the shells, as cobra would later, and by which a wrong argument is wrong usage as by any
// other. Its output goes where that of root does now.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	completion, _, err := root.Find([]string{"completion"})
	if err != nil {
		return // cobra was told to have none
	}
	completion.RunE = func(command *cobra.Command, _ []string) error { return command.Help() } // else cobra does not look at its arguments
	for _, command := range append(completion.Commands(), completion) {
		command.Args = usageArgs(command.Args)
	}
}

// completeWithin is how long the tab key may keep somebody waiting.
const completeWithin = 2 * time.Second

// completions are as many as fit on a screen.
const completions = 50

// workflowIDs completes the ids of registrations, the newest first: those that run, or all.
func (s *starter) workflowIDs(running bool) cobra.CompletionFunc {
	return func(command *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(command.Context(), completeWithin)
		defer cancel()
		found, err := s.idsBeginningWith(ctx, begun, running)
		if err != nil { // a shell has no place for a message
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

func (s *starter) idsBeginningWith(ctx context.Context, begun string, running bool) ([]cobra.Completion, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	query := "WorkflowType = '" + workflows.TypeRegisterModel + "'"
	if running {
		query += " AND ExecutionStatus = 'Running'"
	}
	if begun != "" && !strings.ContainsAny(begun, `'\`) { // which ids of registrations do not hold
		query += " AND WorkflowId STARTS_WITH '" + begun + "'"
	}
	listed, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, PageSize: completions})
	if err != nil {
		return nil, err
	}
	var found []cobra.Completion
	for _, info := range listed.GetExecutions() {
		about := strings.ToLower(info.GetStatus().String())
		if shown := workflows.ShownBy(info); shown.Outcome != "" {
			about = string(shown.Outcome)
		} else if shown.State != "" {
			about = string(shown.State)
		}
		found = append(found, cobra.CompletionWithDesc(info.GetExecution().GetWorkflowId(), about+", "+info.GetStartTime().AsTime().Local().Format(time.DateTime)))
	}
	return found, nil
}

// oneOf completes a flag that takes one of a few words.
func oneOf(command *cobra.Command, flag string, words ...cobra.Completion) {
	_ = command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // fails for unknown flags
}

// filesEndingIn completes files, and flags that name files, by how they end.
func filesEndingIn(endings ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return endings, cobra.ShellCompDirectiveFilterFileExt
	}
}

// folders completes a flag that names a folder.
func folders(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}
