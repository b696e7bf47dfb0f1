package keys

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxKeyFile bounds a key file in bytes. The largest supported key (RSA 4096)
// takes 3.3 kB in PEM.
const maxKeyFile = 8 << 10

// openFile reads and parses the key file at path. It is encrypted where a file with
// a passphrase is named.
func openFile(path, passphraseFile string) (crypto.Signer, error) {
	data, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	var passphrase []byte
	if passphraseFile != "" {
		text, err := ReadFile(passphraseFile)
		if err != nil {
			return nil, fmt.Errorf("reading the passphrase: %w", err)
		}
		defer clear(text)
		if passphrase = bytes.TrimRight(text, "\r\n"); len(passphrase) == 0 {
			return nil, fmt.Errorf("reading the passphrase: %s is empty", passphraseFile)
		}
	}
	signer, err := parse(data, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}

// ReadFile returns the bytes of a regular file that nobody but its owner may
// touch, at most 8 KiB: of a key, or of another secret.
func ReadFile(path string) ([]byte, error) { return ReadFileAtMost(path, maxKeyFile) }

// ReadFileAtMost is ReadFile for a file of at most so many bytes. The mode is judged on the opened
// file, so that the name cannot be pointed elsewhere between the look and the read.
func ReadFileAtMost(path string, most int) ([]byte, error) {
	// Asked before opening because opening a FIFO would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, which gives group or others rights to a secret; run: chmod 0600 %s", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > most {
		return nil, fmt.Errorf("%s is longer than %d bytes, the most that such a file may have", path, most)
	}
	return data, nil
}

// createFile makes path with data, mode 0600, durable, and only if there is
// nothing at path. It writes beside path first and then links, so that an
// interruption leaves no half-written key under the name that is opened.
func createFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".new-key-*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := writeSync(tmp, data); err != nil {
		return err
	}
	// Link, unlike rename, fails when the name is taken.
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return err
	} else if err != nil {
		// Some file systems (SMB shares, FAT) have no hard links. There the
		// name is claimed first, and an interruption in the next few
		// microseconds would leave an empty file, which Open refuses.
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := writeSync(f, data); err != nil {
			os.Remove(path) // ours: O_EXCL made it
			return err
		}
	}
	return syncDir(dir)
}

// writeSync writes data, makes it durable and closes f in any case.
func writeSync(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
