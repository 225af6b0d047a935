package activities

import (
	"context"
	"time"

	"registrar/config"
)

// LoadConfigInput says which files to read: those of the project, or the frozen ones where Project has a key.
type LoadConfigInput struct {
	Project Project `json:"project"`
	// Config and Params are paths below the project; read when nothing is frozen yet.
	Config string `json:"config"`
	Params string `json:"params"`
}

// LoadConfigResult is what the registration was asked to do, and what this worker adds to it.
type LoadConfigResult struct {
	Settings config.Settings `json:"settings"`
	Server   config.Server   `json:"server"`
	// WorkspaceKnown tells that the server's workspace was looked for: an older worker did not.
	WorkspaceKnown bool `json:"workspace_known,omitempty"`
	// SearchAttributes tells whether the namespace has the registration's attributes.
	SearchAttributes bool `json:"search_attributes"`
	// ServerAttribute tells whether it has the one for the MLflow server, too.
	ServerAttribute bool          `json:"server_attribute,omitempty"`
	UIAddress       string        `json:"ui_address,omitempty"`
	SettleTime      time.Duration `json:"settle_time"`
}

// ServerOf is the server of the project at root.
func (r LoadConfigResult) ServerOf(root string) Server {
	server := serverOf(r.Server, root)
	server.WorkspaceKnown = r.WorkspaceKnown
	return server
}

func serverOf(found config.Server, root string) Server {
	return Server{TrackingURI: found.URI, Root: root, Workspace: found.Workspace, WorkspaceKnown: true}
}

// LoadConfig reads the two YAML files and resolves where MLflow is. It changes nothing, and fails on a setting that is wrong.
func (a *Activities) LoadConfig(ctx context.Context, in LoadConfigInput) (LoadConfigResult, error) {
	settings, server, err := a.load(in)
	if err != nil {
		return LoadConfigResult{}, classify(ctx, err)
	}
	return LoadConfigResult{
		Settings:         settings,
		Server:           server,
		WorkspaceKnown:   true,
		SearchAttributes: a.SearchAttributes != nil && a.SearchAttributes(),
		ServerAttribute:  a.ServerAttribute != nil && a.ServerAttribute(),
		UIAddress:        a.UIAddress,
		SettleTime:       a.SettleTime,
	}, nil
}

func (a *Activities) load(in LoadConfigInput) (config.Settings, config.Server, error) {
	configFile, paramsFile, err := a.settingsFiles(in)
	if err != nil {
		return config.Settings{}, config.Server{}, err
	}
	settings, err := config.Parse(configFile, paramsFile)
	if err != nil {
		return config.Settings{}, config.Server{}, err
	}
	environment, err := a.environment(in.Project.Root)
	if err != nil {
		return config.Settings{}, config.Server{}, err
	}
	server, err := config.ResolveServer(settings, paramsFile.Name, environment)
	return settings, server, err
}

func (a *Activities) settingsFiles(in LoadConfigInput) (configFile, paramsFile config.File, err error) {
	if in.Project.Key != "" {
		folder, err := a.folder(in.Project)
		if err != nil {
			return config.File{}, config.File{}, err
		}
		defer folder.Close()
		frozenConfig, err := folder.ReadConfig()
		if err != nil {
			return config.File{}, config.File{}, err
		}
		frozenParams, err := folder.ReadParams()
		return config.File(frozenConfig), config.File(frozenParams), err
	}
	dir, err := a.Roots.OpenRoot(in.Project.Root)
	if err != nil {
		return config.File{}, config.File{}, err
	}
	defer dir.Close()
	if configFile, err = readSettings(dir, in.Config); err != nil {
		return config.File{}, config.File{}, err
	}
	paramsFile, err = readSettings(dir, in.Params)
	return configFile, paramsFile, err
}
