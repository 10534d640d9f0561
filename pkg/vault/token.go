package vault

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

const (
	tokenFile  = ".vault-token" // where "vault login" keeps it
	configFile = ".vault"       // the vault command's own settings
)

// token returns the Vault token: the configured one, else that of "vault
// login", read anew each time.
func (s *Source) token() (transport.Secret, error) {
	if !s.o.Token.IsZero() {
		return s.o.Token, nil
	}
	looked := "looked at VAULT_TOKEN"
	if s.o.Home != "" {
		file := filepath.Join(s.o.Home, tokenFile)
		b, err := os.ReadFile(file) //nolint:gosec // a fixed name in the user's home
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(b)) == "":
			looked += " and ~/" + tokenFile
		case err != nil:
			return transport.Secret{}, fault.New(fault.Denied, "the Vault token in ~/"+tokenFile+" cannot be read", "vault login").Because(err.Error()).From(err)
		default:
			t, err := transport.NewSecret(string(b))
			if err != nil {
				return transport.Secret{}, fault.New(fault.Denied, "the Vault token in ~/"+tokenFile+" cannot be used", "vault login").Because("it " + err.Error()).From(err)
			}
			return t, nil
		}
	}
	return transport.Secret{}, fault.New(fault.Denied, "there is no Vault token to read "+s.o.Path+" with", "vault login").Because(looked + s.helperNote())
}

// helperNote says, if it is so, why "vault login" did not help.
func (s *Source) helperNote() string {
	if s.o.Home == "" {
		return ""
	}
	b, err := os.ReadFile(filepath.Join(s.o.Home, configFile))
	if err != nil {
		return ""
	}
	helper := regexp.MustCompile(`(?m)^\s*\{?\s*"?token_helper"?\s*[=:]\s*"([^"]+)"`).FindSubmatch(b)
	if helper == nil {
		return ""
	}
	return "; the token helper " + string(helper[1]) + " named in ~/" + configFile + " is not started: set VAULT_TOKEN"
}
