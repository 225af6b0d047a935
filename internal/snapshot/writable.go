package snapshot

import (
	"crypto/rand"
	"errors"
	"os"
)

// CheckWritable makes a file in the folder of registrations and removes it.
func CheckWritable(rootDir *os.Root) error {
	name := "check-up-" + rand.Text() + ".tmp"
	file, err := rootDir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), rootDir.Remove(name))
}
