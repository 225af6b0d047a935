// Package snapshot keeps registration folders: frozen copies of what a registration reads, and what it writes.
//
// It knows how inputs are copied and hashed in one pass, how a copy comes into place whole or not at all, and how it is
// checked before it is used. It does not know what the files mean: no gate, no model format, no settings.
//
// A registration folder is registrations/<first 16 hex digits of the registration key> below the root_dir of the project:
//
//	request.json                     what was asked for, and size and digest of each copy
//	model/<file name>                the model
//	metrics.json                     its metrics
//	extra/<file name>                what the consumer needs beside the model
//	settings/<digest>/config.yaml    the settings it was asked with, params.yaml beside it
//	workflow.json                    there once Temporal has the registration
//	upload.json                      how far an upload in parts has come, or that its addresses expired, while it is under way
//	decision.json, receipt.json      what came of it; those of the newest registration lie in root_dir, too
//
// The names of copies never change their content: where a registration is asked for again with other settings, these get
// another folder, and the replacement of request.json switches from one to the other at once. So a process may be killed
// at any moment, and the folder holds one request or the other, whole.
package snapshot

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"path"
	"slices"
	"time"
)

// SchemaVersion is the version of request.json that this package writes. A higher one is not read.
const SchemaVersion = 1

// shortKeyLength is how many hex digits of a registration key name its folder and its workflow.
const shortKeyLength = 16

// Entry is a file that was copied.
type Entry struct {
	Name      string `json:"name"` // inside the registration folder, with slashes
	Path      string `json:"path"` // of the source, as configured
	SHA256    string `json:"sha256"`
	SizeBytes int64  `json:"size_bytes"`
}

// Request is request.json: what a registration was asked for. Fields are added, never renamed.
type Request struct {
	SchemaVersion   int     `json:"schema_version"`
	ID              string  `json:"id"` // random: tells this request from other ones of the same key
	RegistrationKey string  `json:"registration_key"`
	ModelName       string  `json:"model_name"`
	Model           Entry   `json:"model"`
	Metrics         Entry   `json:"metrics"`
	ExtraFiles      []Entry `json:"extra_files,omitempty"`
	Config          Entry   `json:"config"`
	Params          Entry   `json:"params"`
	SettingsSHA256  string  `json:"settings_sha256"` // over config and params, see SettingsDigest
	ForceToken      string  `json:"force_token,omitempty"`
	GitCommit       string  `json:"git_commit,omitempty"`
	User            string  `json:"user,omitempty"`
	// FrozenAt is when the inputs were copied, by the clock of who did: what was queued is handed over in this order.
	FrozenAt time.Time `json:"frozen_at,omitzero"`
}

// Entries returns all that was copied, in the order in which it is copied: what is small comes first.
func (r Request) Entries() []Entry {
	return append([]Entry{r.Config, r.Params, r.Metrics, r.Model}, r.ExtraFiles...)
}

// Key computes the registration key that the request should have.
func (r Request) Key() string {
	return Key(r.ModelName, r.Model.SHA256, r.Metrics.SHA256, r.ExtraFiles, r.ForceToken)
}

// Key returns the registration key in hex: the SHA-256 over the model's name, the digests of model and metrics, the force
// token (empty where there is none), and name and digest of each extra file in the order of their names. Each field is
// preceded by its length in 8 bytes, big-endian, so that no two different requests share a key. The order of the extra
// files does not matter; their names do, since a consumer finds them by name.
func Key(modelName, modelSHA256, metricsSHA256 string, extraFiles []Entry, forceToken string) string {
	fields := []string{"registrar.key.1", modelName, modelSHA256, metricsSHA256, forceToken}
	byName := slices.SortedFunc(slices.Values(extraFiles), func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.SHA256, b.SHA256))
	})
	for _, extra := range byName {
		fields = append(fields, extra.Name, extra.SHA256)
	}
	return digest(fields...)
}

// ShortKey returns the first 16 hex digits of a registration key, which name its folder. A shorter key is returned as it
// is.
func ShortKey(key string) string {
	return key[:min(len(key), shortKeyLength)]
}

// FolderPath returns the path of the registration folder of a key, below root_dir.
func FolderPath(key string) string { return path.Join(registrationsName, ShortKey(key)) }

// SettingsDigest returns the SHA-256, in hex, over the content of both settings files, each preceded by its length as in
// Key.
func SettingsDigest(config, params []byte) string {
	return digest("registrar.settings.1", string(config), string(params))
}

func digest(fields ...string) string {
	hash := sha256.New()
	for _, field := range fields {
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
		hash.Write([]byte(field))
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// encode returns value as the indented JSON that all files of a registration folder are written in.
func encode(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(value)
	return buffer.Bytes(), err
}

func decodeRequest(data []byte) (Request, error) {
	var request Request
	if err := json.Unmarshal(data, &request); err != nil {
		return Request{}, err
	}
	if request.SchemaVersion < 1 || request.SchemaVersion > SchemaVersion {
		return Request{}, inputErrorf("schema_version is %d, this program reads 1 to %d: it was written by another version",
			request.SchemaVersion, SchemaVersion)
	}
	return request, nil
}
