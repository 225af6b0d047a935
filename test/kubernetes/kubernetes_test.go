// Package kubernetes_test renders deploy/kubernetes by kustomize, and checks what comes out by the schemas of Kubernetes and against
// the worker that it configures. It starts no cluster.
package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.yaml.in/yaml/v3"

	"registrar/internal/servertest"
)

// rendered are the folders that one may apply, or start from.
var rendered = []string{"base", "example"}

// resource is what the tests look at of a resource of any kind. Keys match in any case.
type resource struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Data     map[string]string
	Spec     struct {
		MaxUnavailable      int
		Selector            struct{ MatchLabels map[string]string }
		PodMetricsEndpoints []struct{ Port, Path, Interval string }
		Replicas            int
		Template            struct {
			Metadata struct{ Labels map[string]string }
			Spec     pod
		}
	}
}

type pod struct {
	AutomountServiceAccountToken  *bool
	TerminationGracePeriodSeconds int
	SecurityContext               struct {
		RunAsNonRoot   bool
		RunAsUser      int
		FSGroup        *int
		SeccompProfile struct{ Type string }
	}
	Containers []container
	Volumes    []volume
}

type volume struct {
	Name   string
	Secret struct{ SecretName string }
}

type container struct {
	Image         string
	Env           []struct{ Name, Value string }
	EnvFrom       []struct{ ConfigMapRef struct{ Name string } }
	Ports         []port
	LivenessProbe struct {
		HTTPGet question
	}
	ReadinessProbe struct {
		HTTPGet question
	}
	VolumeMounts    []mount
	SecurityContext struct {
		AllowPrivilegeEscalation *bool
		ReadOnlyRootFilesystem   bool
		Capabilities             struct{ Drop []string }
	}
}

type question struct{ Path, Port string }

type port struct {
	Name          string
	ContainerPort int
}

type mount struct {
	Name, MountPath string
	ReadOnly        bool
}

// render runs kustomize on a folder of deploy/kubernetes.
func render(t *testing.T, name string) []byte {
	t.Helper()
	servertest.SkipWhereOff(t)
	kustomize := exec.CommandContext(t.Context(), filepath.Join(servertest.Root(), "bin", "kustomize"), "build", folder(name))
	var stderr bytes.Buffer
	kustomize.Stderr = &stderr
	manifest, err := kustomize.Output()
	require.NoError(t, err, "%s (no such file: run `make tools`)", &stderr)
	require.Empty(t, stderr.String(), "kustomize warns")
	return manifest
}

func folder(name string) string {
	return filepath.Join(servertest.Root(), "deploy", "kubernetes", name)
}

func documents(t *testing.T, manifest []byte) []any {
	t.Helper()
	var all []any
	for decoder := yaml.NewDecoder(bytes.NewReader(manifest)); ; {
		var document any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, document)
	}
}

// resources are those that kustomize renders, by kind: there is one of each.
func resources(t *testing.T, name string) map[string]resource {
	t.Helper()
	byKind := map[string]resource{}
	for _, document := range documents(t, render(t, name)) {
		text, err := json.Marshal(document)
		require.NoError(t, err)
		var one resource
		require.NoError(t, json.Unmarshal(text, &one))
		require.NotContains(t, byKind, one.Kind)
		byKind[one.Kind] = one
	}
	return byKind
}

func worker(t *testing.T, of map[string]resource) (pod, container) {
	t.Helper()
	pod := of["Deployment"].Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	return pod, pod.Containers[0]
}

// validate runs kubernetes-validate on the resources of Kubernetes' own kinds.
func validate(t *testing.T, manifest []byte) (string, error) {
	t.Helper()
	var own []string
	for _, document := range documents(t, manifest) {
		if !strings.Contains(document.(map[string]any)["apiVersion"].(string), "monitoring.coreos.com/") {
			text, err := yaml.Marshal(document)
			require.NoError(t, err)
			own = append(own, string(text))
		}
	}
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(own, "---\n")), 0o600))
	program := filepath.Join(servertest.Root(), ".build", "kubernetes", "bin", "kubernetes-validate")
	require.FileExists(t, program, "run `make tools`")
	output, err := exec.CommandContext(t.Context(), program, "--strict", "--kubernetes-version", "1.37", file).CombinedOutput()
	return string(output), err
}

func TestKubernetes_ResourcesMeetTheSchemas(t *testing.T) {
	for _, name := range rendered {
		output, err := validate(t, render(t, name))
		require.NoError(t, err, "%s: %s", name, output)
		require.Equal(t, 3, strings.Count(output, " passed for resource "), "%s: %s", name, output)
	}
}

func TestKubernetes_WhatNoSchemaKnowsIsFound(t *testing.T) {
	manifest := render(t, "base")
	for wrong, right := range map[string]string{"maxSkw": "maxSkew", "periodSeconds: soon": "periodSeconds: 10"} {
		output, err := validate(t, bytes.ReplaceAll(manifest, []byte(right), []byte(wrong)))
		require.Error(t, err, output)
		require.Contains(t, output, "did not validate for resource deployment/registrar-worker")
	}
}

func TestKubernetes_WorkerIsConfined(t *testing.T) {
	for _, name := range rendered {
		pod, container := worker(t, resources(t, name))
		require.Equal(t, new(bool), pod.AutomountServiceAccountToken)
		require.True(t, pod.SecurityContext.RunAsNonRoot)
		require.NotZero(t, pod.SecurityContext.RunAsUser)
		require.Nil(t, pod.SecurityContext.FSGroup, "it would take the pipeline's files over")
		require.Equal(t, "RuntimeDefault", pod.SecurityContext.SeccompProfile.Type)
		require.Equal(t, new(bool), container.SecurityContext.AllowPrivilegeEscalation)
		require.True(t, container.SecurityContext.ReadOnlyRootFilesystem)
		require.Equal(t, []string{"ALL"}, container.SecurityContext.Capabilities.Drop)
		require.Equal(t, mount{Name: "projects", MountPath: "/projects"}, container.VolumeMounts[len(container.VolumeMounts)-1])
	}
}

func TestKubernetes_SettingsAreTheWorkers(t *testing.T) {
	help, err := exec.CommandContext(t.Context(), "go", "run", "registrar/worker", "--help").Output()
	require.NoError(t, err)
	all := resources(t, "example")
	pod, container := worker(t, all)
	settings := all["ConfigMap"]
	require.Equal(t, settings.Metadata.Name, container.EnvFrom[0].ConfigMapRef.Name, "a change of settings starts the workers anew")
	for name := range settings.Data {
		if flag, ours := strings.CutPrefix(name, "REGISTRAR_"); ours {
			require.Contains(t, string(help), "--"+strings.ToLower(strings.ReplaceAll(flag, "_", "-"))+" ", name)
		}
	}
	require.Equal(t, "/projects", settings.Data["REGISTRAR_ALLOW_ROOT"])
	require.Equal(t, []port{{Name: "http", ContainerPort: 9464}}, container.Ports)
	require.Equal(t, ":9464", settings.Data["REGISTRAR_HTTP_LISTEN"])
	require.Equal(t, question{Path: "/healthz", Port: "http"}, container.LivenessProbe.HTTPGet)
	require.Equal(t, question{Path: "/readyz", Port: "http"}, container.ReadinessProbe.HTTPGet)
	require.Regexp(t, `--shutdown-timeout duration .*\(default 20s\)`, string(help))
	require.Equal(t, 30, pod.TerminationGracePeriodSeconds, "longer than that")
	require.Equal(t, "registry.example.com/registrar-worker:1.2.3", container.Image)
}

func TestKubernetes_SelectorsFindTheWorker(t *testing.T) {
	all := resources(t, "example")
	labels := all["Deployment"].Spec.Template.Metadata.Labels
	for _, kind := range []string{"Deployment", "PodDisruptionBudget", "PodMonitor"} {
		require.Equal(t, "pipelines", all[kind].Metadata.Namespace, kind)
		require.NotEmpty(t, all[kind].Spec.Selector.MatchLabels, kind)
		require.Subset(t, labels, all[kind].Spec.Selector.MatchLabels, kind)
	}
	require.Equal(t, 1, all["PodDisruptionBudget"].Spec.MaxUnavailable)
	require.Greater(t, all["Deployment"].Spec.Replicas, all["PodDisruptionBudget"].Spec.MaxUnavailable)
	endpoints := all["PodMonitor"].Spec.PodMetricsEndpoints
	require.Len(t, endpoints, 1)
	require.Equal(t, "http", endpoints[0].Port)
	require.Equal(t, "/metrics", endpoints[0].Path)
}

// A secret is a file, named by a variable: it shows neither in the resources nor in the environment of the process.
func TestKubernetes_SecretsComeAsFiles(t *testing.T) {
	all := resources(t, "example")
	pod, container := worker(t, all)
	secrets := map[string]bool{}
	for _, volume := range pod.Volumes {
		secrets[volume.Name] = volume.Secret.SecretName != ""
	}
	folders := map[string]bool{}
	for _, mount := range container.VolumeMounts {
		require.Contains(t, secrets, mount.Name)
		if secrets[mount.Name] {
			require.True(t, mount.ReadOnly, mount.Name)
			folders[mount.MountPath] = true
		}
	}
	named := map[string]bool{}
	for name, value := range all["ConfigMap"].Data {
		require.NotRegexp(t, `(PASSWORD|TOKEN|API_KEY|_DATA)$`, name, "a secret itself")
		if regexp.MustCompile(`_(FILE|PATH)$`).MatchString(name) {
			named[filepath.Dir(value)] = true
		}
	}
	require.Equal(t, folders, named)
	for _, variable := range container.Env {
		require.Equal(t, "GOMEMLIMIT", variable.Name)
	}
}

// The profile that the component's comment shows is what the worker reads its connection from.
func TestKubernetes_APIKeyComesFromAProfile(t *testing.T) {
	component, err := os.ReadFile(filepath.Join(folder("components"), "temporal-api-key", "kustomization.yaml"))
	require.NoError(t, err)
	var profile strings.Builder
	for _, line := range strings.Split(string(component), "\n") {
		if text, shown := strings.CutPrefix(line, "#   "); shown {
			profile.WriteString(text + "\n")
		}
	}
	file := filepath.Join(t.TempDir(), "temporal.toml")
	require.NoError(t, os.WriteFile(file, []byte(profile.String()), 0o600))
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{EnvLookup: variables{"TEMPORAL_CONFIG_FILE": file}})
	require.NoError(t, err)
	require.Equal(t, "eu-west-1.aws.api.temporal.io:7233", options.HostPort)
	require.Equal(t, "registrar.a1b2c", options.Namespace)
	require.NotNil(t, options.Credentials)
	require.NotNil(t, options.ConnectionOptions.TLS, "a key takes TLS")
}

type variables map[string]string

func (v variables) LookupEnv(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

func (v variables) Environ() []string { return nil }
