package compose_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// document decodes a YAML file, each of whose keys the value has to know.
func document(t *testing.T, name string, value any) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(read(t, name)))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(value), name)
}

// `make alerts` has promtool check the file.
func TestMonitoring_PrometheusFindsTheWorkersAndTheRules(t *testing.T) {
	var file struct {
		Global struct {
			ScrapeInterval     string `yaml:"scrape_interval"`
			EvaluationInterval string `yaml:"evaluation_interval"`
		}
		RuleFiles     []string `yaml:"rule_files"`
		ScrapeConfigs []struct {
			JobName      string `yaml:"job_name"`
			DNSSDConfigs []struct {
				Names           []string
				Type            string
				Port            int
				RefreshInterval string `yaml:"refresh_interval"`
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	document(t, "deploy/prometheus/prometheus.yml", &file)
	require.Len(t, file.ScrapeConfigs, 1)
	require.Len(t, file.ScrapeConfigs[0].DNSSDConfigs, 1)
	found := file.ScrapeConfigs[0].DNSSDConfigs[0]
	require.Equal(t, []string{service(t, "worker").Name}, found.Names)
	require.Equal(t, "0.0.0.0:9464", environment(t, service(t, "worker"))["REGISTRAR_HTTP_LISTEN"])
	require.Equal(t, 9464, found.Port)

	prometheus := service(t, "prometheus")
	require.Contains(t, prometheus.Command, "--config.file=/etc/prometheus/prometheus.yml")
	mounted := map[string]bool{}
	for _, volume := range prometheus.Volumes {
		mounted[volume.Target] = true
	}
	for _, rules := range file.RuleFiles {
		require.True(t, mounted[filepath.Join("/etc/prometheus", rules)], rules)
	}
}

// What the two files of provisioning may say: https://grafana.com/docs/grafana/latest/administration/provisioning
func TestMonitoring_GrafanaFindsPrometheusAndTheDashboard(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Prune       bool
		Datasources []struct {
			Name, Type, Access, URL string
			IsDefault               bool           `yaml:"isDefault"`
			JSONData                map[string]any `yaml:"jsonData"`
		}
	}
	document(t, "deploy/grafana/provisioning/datasources/prometheus.yaml", &sources)
	require.Equal(t, 1, sources.APIVersion)
	require.Len(t, sources.Datasources, 1)
	source := sources.Datasources[0]
	require.Equal(t, "prometheus", source.Type)
	require.Equal(t, "http://"+service(t, "prometheus").Name+":9090", source.URL)
	require.True(t, source.IsDefault, "the dashboard takes the default one")

	var dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type      string
			DisableDeletion bool `yaml:"disableDeletion"`
			Options         struct{ Path string }
		}
	}
	document(t, "deploy/grafana/provisioning/dashboards/registrar.yaml", &dashboards)
	require.Len(t, dashboards.Providers, 1)
	require.Equal(t, "file", dashboards.Providers[0].Type)

	grafana := service(t, "grafana")
	home := environment(t, grafana)["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	require.Equal(t, dashboards.Providers[0].Options.Path, filepath.Dir(home))
	targets := map[string]string{}
	for _, volume := range grafana.Volumes {
		targets[volume.Target] = volume.Source
	}
	require.FileExists(t, targets[home])
	require.Contains(t, targets, "/etc/grafana/provisioning/datasources/prometheus.yaml")
	require.Contains(t, targets, "/etc/grafana/provisioning/dashboards/registrar.yaml")
	var dashboard struct{ Title string }
	require.NoError(t, json.Unmarshal([]byte(read(t, "deploy/grafana/dashboards/registrar.json")), &dashboard))
	require.NotEmpty(t, dashboard.Title)
}

// Nobody logs in, so nobody may change anything, and the user admin whose password everyone knows is not made.
func TestMonitoring_GrafanaHasNoDefaultPassword(t *testing.T) {
	require.Subset(t, environment(t, service(t, "grafana")), map[string]string{
		"GF_AUTH_ANONYMOUS_ENABLED":                  "true",
		"GF_AUTH_ANONYMOUS_ORG_ROLE":                 "Viewer",
		"GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
	})
}
