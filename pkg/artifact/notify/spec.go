package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"homelab/pkg/transport"
)

// Means is how a receiver is told.
type Means string

// The means.
const (
	Webhook Means = "webhook" // POST of the notification as JSON
	Ntfy    Means = "ntfy"    // POST to an ntfy topic
	Exec    Means = "exec"    // a program
)

// Spec is one receiver, as it was written down. Its String shows no more of a
// URL than its host: whoever knows a webhook's path, or a topic, may use it.
type Spec struct {
	Means     Means
	At        string // the URL, or the program's path
	On        []Name // empty: all
	TokenFile string // "" none
	CAFile    string // "" none
	Dial      transport.Pin
}

// Part is one key of a receiver; On has one for each name.
type Part struct{ Key, Value string }

// Keys are the keys of a receiver. ListKeys of them take a list.
func Keys() []string {
	return []string{string(Webhook), string(Ntfy), string(Exec), "on", "token-file", "ca-file", "dial"}
}

// ListKeys are the keys that take several values.
func ListKeys() []string { return []string{"on"} }

// Parse reads a receiver. The error says what is wrong without showing a URL.
func Parse(parts []Part) (Spec, error) {
	var s Spec
	for _, p := range parts {
		switch p.Key {
		case string(Webhook), string(Ntfy), string(Exec):
			if s.Means != "" {
				return s, fmt.Errorf("one receiver is one of webhook, ntfy and exec, not both %s and %s", s.Means, p.Key)
			}
			s.Means, s.At = Means(p.Key), p.Value
		case "on":
			n := Name(p.Value)
			if !slices.Contains(Names(), n) {
				return s, fmt.Errorf("on: %q is nothing that is told; there are %s", p.Value, list(Names()))
			}
			if !slices.Contains(s.On, n) {
				s.On = append(s.On, n)
			}
		case "token-file":
			s.TokenFile = p.Value
		case "ca-file":
			s.CAFile = p.Value
		case "dial":
			pin, err := transport.ParsePin(p.Value)
			if err != nil {
				return s, fmt.Errorf("dial: %w", err)
			}
			s.Dial = pin
		default:
			return s, fmt.Errorf("unknown key %q", p.Key)
		}
	}
	return s, s.check()
}

func list(names []Name) string {
	words := make([]string, len(names))
	for i, n := range names {
		words[i] = string(n)
	}
	return strings.Join(words, ", ")
}

func (s Spec) check() error {
	switch s.Means {
	case "":
		return errors.New("a receiver needs one of webhook, ntfy and exec")
	case Exec:
		switch {
		case s.TokenFile != "" || s.CAFile != "" || s.Dial.Addr.IsValid():
			return errors.New("token-file, ca-file and dial go with webhook and ntfy, not with exec")
		case !filepath.IsAbs(s.At):
			return errors.New("exec: the path of a program is absolute")
		}
		return nil
	case Webhook, Ntfy:
	}
	u, err := url.Parse(s.At)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%s: want a URL such as https://HOST/PATH", s.Means)
	case u.User != nil:
		return fmt.Errorf("%s: a password does not belong into the URL; give a token-file", s.Means)
	case u.Fragment != "":
		return fmt.Errorf("%s: a URL with # cannot be asked", s.Means)
	case s.Means == Ntfy && strings.Trim(u.Path, "/") == "":
		return errors.New("ntfy: the topic is missing: https://HOST/TOPIC")
	}
	if _, err := transport.OriginOf(u); err != nil {
		return fmt.Errorf("%s: %w", s.Means, err)
	}
	return nil
}

// String is the receiver for people: of a URL the host, of a program the path.
func (s Spec) String() string {
	if s.Means == Exec {
		return string(s.Means) + " " + s.At
	}
	u, err := url.Parse(s.At)
	if err != nil {
		return string(s.Means)
	}
	return string(s.Means) + " " + u.Scheme + "://" + u.Host
}

// key tells receivers apart on disk without showing where they are.
func (s Spec) key() string {
	sum := sha256.Sum256([]byte(string(s.Means) + " " + s.At))
	return string(s.Means) + "-" + hex.EncodeToString(sum[:8])
}
