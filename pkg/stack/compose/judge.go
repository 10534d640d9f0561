package compose

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"homelab/pkg/rollout"
)

// settle is how long a container without a health check must have been running
// before it counts: one that ends at once is restarted, and runs again for a
// moment.
const settle = time.Second

// crashes is how often the engine restarts a container before it is given up.
const crashes = 3

// Judge says of one service whether it is up, from one look at its containers:
// all of them running, healthy where they have a health check, made of the
// image that its reference means here. wanted is that image's id, "" when this
// machine does not have it.
func Judge(s Service, all []Container, wanted string, now time.Time) rollout.Verdict {
	v := rollout.Verdict{Outcome: rollout.Pending, Phase: rollout.PhaseRollout, Image: s.Image, Expected: rollout.Expected{Image: s.Image}}
	v.Counts.Desired = int32(min(s.Scale, 1<<20)) //nolint:gosec // bounded
	same := wanted != ""
	var waits []string
	for _, c := range all {
		if c.Service != s.Name {
			continue
		}
		fail := func(class rollout.Class, reason, format string, args ...any) {
			if v.Outcome == rollout.Failed {
				return
			}
			v.Outcome = rollout.Failed
			v.Sentence = fmt.Sprintf(format, args...)
			code := int32(c.ExitCode) //nolint:gosec // a byte
			v.Cause = &rollout.Cause{
				Class: class, Reason: reason, Message: c.Error, Pod: c.Name, Container: s.Name, Restarts: int32(min(c.Restarts, 1<<20)), //nolint:gosec // bounded
			}
			if c.State != "running" && c.State != "created" {
				v.Cause.ExitCode = &code
			}
		}
		old := c.Image != s.Image || wanted != "" && c.ImageID != wanted
		if old {
			same = false
			v.Counts.Old++
			waits = append(waits, c.Name+" runs another image than "+s.Image+" means here")
			continue
		}
		v.Counts.Updated++
		switch {
		case s.Once && c.State == "exited" && c.ExitCode == 0:
			v.Counts.Ready++
		case c.State == "exited", c.State == "dead":
			text := fmt.Sprintf("%s ended with %d", c.Name, c.ExitCode)
			if c.Error != "" {
				text += ": " + c.Error
			}
			fail(rollout.ClassCrash, "Exited", "%s", text)
		case c.State == "created" && c.Error != "":
			fail(rollout.ClassConfig, "CreateError", "%s cannot be started: %s", c.Name, c.Error)
		case c.State == "paused":
			waits = append(waits, c.Name+" is paused")
		case c.Restarts >= crashes && c.Health != "healthy" && (c.State == "restarting" || now.Sub(c.Started) < settle):
			fail(rollout.ClassCrash, "CrashLoop", "%s ends again and again, with %d", c.Name, c.ExitCode)
		case c.State != "running":
			waits = append(waits, c.Name+" is "+c.State)
		case c.Health == "unhealthy":
			fail(rollout.ClassReadiness, "Unhealthy", "%s is unhealthy", c.Name)
		case c.Health == "starting":
			waits = append(waits, c.Name+" is not healthy yet")
		case c.Health == "" && !s.Once && now.Sub(c.Started) < settle:
			waits = append(waits, c.Name+" has just started")
		case s.Once:
			waits = append(waits, c.Name+" has not ended yet")
		default:
			v.Counts.Ready++
			v.Counts.Available++
		}
	}
	switch {
	case v.Outcome == rollout.Failed:
	case v.Counts.Updated+v.Counts.Old == 0 && s.Scale > 0:
		v.Outcome, v.Phase, v.Sentence = rollout.Absent, rollout.PhaseImage, "has no container"
	case int(v.Counts.Ready) < s.Scale:
		if len(waits) == 0 {
			waits = []string{fmt.Sprintf("%d of %d containers are there", v.Counts.Updated, s.Scale)}
		}
		v.Sentence = strings.Join(waits, "; ")
	case v.Counts.Old > 0:
		v.Sentence = strings.Join(waits, "; ")
	default:
		v.Outcome, v.Phase, v.Verified, v.Confirmed = rollout.Ready, rollout.PhaseDone, same, true
		v.MatchedBy = "image"
		v.Sentence = fmt.Sprintf("%d/%d run %s", v.Counts.Ready, s.Scale, s.Image)
		if !same && s.Scale > 0 {
			v.MatchedBy = ""
			v.Warnings = append(v.Warnings, "this machine has no image "+s.Image+" any more: what runs was not compared")
		}
	}
	return v
}

// Fingerprint is the content of what a service mounts of its directory: another
// one when a byte, a name or a mode has changed. "" when it mounts nothing.
func Fingerprint(s Service) (string, error) {
	if len(s.Bound) == 0 {
		return "", nil
	}
	h := sha256.New()
	for _, root := range s.Bound {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := os.Stat(path)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(h, "%s\x00%o\x00%d\x00", path, st.Mode(), st.Size())
			if !st.Mode().IsRegular() {
				return nil
			}
			f, err := os.Open(path) //nolint:gosec // of the deployment directory
			if err != nil {
				return err
			}
			defer f.Close() //nolint:errcheck // it was only read
			_, err = io.Copy(h, f)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Newest is when the youngest of the files was written that a service mounts of
// its directory; zero when there is none, or none can be read.
func Newest(s Service) time.Time {
	var out time.Time
	for _, root := range s.Bound {
		_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // what cannot be read has no time
			}
			if st, err := os.Stat(path); err == nil && st.ModTime().After(out) {
				out = st.ModTime()
			}
			return nil
		})
	}
	return out
}
