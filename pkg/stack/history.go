package stack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"homelab/pkg/fault"
	"homelab/pkg/git"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

const (
	historyDir = "history"
	keptAtMost = 10 // revisions; the newest good one stays even if it is older
)

// Revision is one state that a deployment was brought to.
type Revision struct {
	Number int               `json:"number"`
	Time   time.Time         `json:"time"`
	Verb   string            `json:"verb"`
	Spec   Origin            `json:"spec"`
	Stack  Origin            `json:"stack"`
	Images map[string]string `json:"images"` // container -> reference
	// Overrides are those of Images that no file says: the command line's, or a
	// watch's.
	Overrides map[string]string `json:"overrides,omitempty"`
	Verdict   string            `json:"verdict"` // "up", a rollout's outcome, or "unverified"
	Good      bool              `json:"good"`    // it was seen up
	Reason    string            `json:"reason"`
	Of        int               `json:"of,omitempty"` // the revision that a rollback brought back

	// Content is the hash of all of it; equal ones are one revision.
	Content string `json:"content"`
	// Source is the hash of what the files alone come to.
	Source string `json:"source"`
	// Left is what a rollback turned away from.
	Left *Left `json:"left,omitempty"`

	Files []keptFile `json:"files"`
}

// Left is a state that somebody went back from: a restart does not bring it
// back by itself.
type Left struct {
	Number int        `json:"number,omitempty"` // 0: it was never recorded
	Source string     `json:"source"`
	Spec   git.Commit `json:"spec,omitempty"`
	Stack  git.Commit `json:"stack,omitempty"`
}

type keptFile struct {
	Path   string      `json:"path"`
	Mode   fs.FileMode `json:"mode"`
	Secret bool        `json:"secret,omitempty"`
	Hash   string      `json:"hash"`
}

// The verdicts of a revision that no rollout gives.
const (
	verdictUp         = "up"
	verdictUnverified = "unverified"
)

func historyOf(dir string) string { return filepath.Join(dir, file.StateDir, historyDir) }

func revisionDir(dir string, n int) string {
	return filepath.Join(historyOf(dir), fmt.Sprintf("%06d", n))
}

// Revisions returns the revisions of a deployment directory, newest first.
// Nothing is contacted. One that cannot be read is an error of kind Unsafe.
func (w *World) Revisions(dir string) (Identity, []Revision, error) {
	d, _, err := file.Load(dir, w.Files)
	if err != nil {
		return Identity{}, nil, err
	}
	r := w.run(Options{Dir: dir})
	r.d = d
	r.identify()
	all, err := recordedIn(d.Path)
	return r.out.Deployment, all, err
}

// recordedIn reads what is recorded in a directory, newest first.
func recordedIn(dir string) ([]Revision, error) {
	list, err := os.ReadDir(historyOf(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadableHistory(dir, err)
	}
	var out []Revision
	for _, e := range list {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n <= 0 || !e.IsDir() {
			continue // a revision that was never finished
		}
		var rev Revision
		raw, err := os.ReadFile(filepath.Join(revisionDir(dir, n), "revision.json"))
		if err == nil {
			err = json.Unmarshal(raw, &rev)
		}
		if err != nil {
			return nil, unreadableHistory(dir, err)
		}
		rev.Number = n
		out = append(out, rev)
	}
	slices.SortFunc(out, func(a, b Revision) int { return cmp.Compare(b.Number, a.Number) })
	return out, nil
}

func unreadableHistory(dir string, err error) error {
	return fault.New(fault.Unsafe, "the history in "+historyOf(dir)+" cannot be read", "").Because(err.Error()).From(err)
}

// remember records what was applied and what it came to. A state equal to the
// newest one is that one. A stack that is up stays up when its history cannot be
// written: that is told, and no failure.
func (r *run) remember() {
	err := r.addRevision()
	if err == nil {
		return
	}
	r.notices([]file.Notice{{
		Code: "history-not-written", Level: file.Warning, File: historyOf(r.d.Path),
		Message: "this state is not recorded, so that nothing can go back to it: " + err.Error(),
	}})
}

func (r *run) addRevision() error {
	all, err := recordedIn(r.d.Path)
	if err != nil {
		return err
	}
	rev, state, kept, err := r.revisionNow()
	if err != nil {
		return err
	}
	if len(all) > 0 && rev.Spec.Commit == "" && rev.Stack.Commit == "" && rev.Source != "" && rev.Source == all[0].Source {
		rev.Spec, rev.Stack = all[0].Spec, all[0].Stack // made from what made that one
	}
	if len(all) > 0 && all[0].Content == rev.Content && r.left == nil {
		was := all[0]
		if was.Good && !rev.Good && rev.Verdict == verdictUnverified {
			rev.Good, rev.Verdict, rev.Reason = true, was.Verdict, was.Reason // it was seen up, and nothing changed
		}
		rev.Number, rev.Of, rev.Left, rev.Verb, rev.Time = was.Number, was.Of, was.Left, was.Verb, was.Time
		r.out.Revision = rev.Number
		if rev.Good == was.Good && rev.Verdict == was.Verdict && rev.Spec == was.Spec && rev.Stack == was.Stack && maps.Equal(rev.Overrides, was.Overrides) {
			return nil
		}
		return putJSON(filepath.Join(revisionDir(r.d.Path, rev.Number), "revision.json"), rev)
	}
	rev.Number = 1
	if len(all) > 0 {
		rev.Number = all[0].Number + 1
	}
	if err := writeRevision(r.d.Path, rev, state, kept); err != nil {
		return err
	}
	r.out.Revision = rev.Number
	return forget(r.d.Path, append([]Revision{rev}, all...))
}

// revisionNow is what a revision of this run holds.
func (r *run) revisionNow() (Revision, *render.Result, []directory.Kept, error) {
	rev := Revision{
		Time: r.w.Now().UTC(), Verb: r.o.Verb, Spec: r.out.Spec, Stack: r.out.Stack, Images: map[string]string{},
		Verdict: r.out.Verdict, Good: r.out.Kind == fault.OK && !r.o.NoWait, Reason: r.out.Reason, Left: r.left,
	}
	if r.o.NoWait {
		rev.Verdict = verdictUnverified
	}
	rev.Overrides = maps.Clone(r.o.Images)
	if r.revision != nil {
		rev.Of, rev.Spec, rev.Stack = r.revision.Number, r.revision.Spec, r.revision.Stack
		if len(r.revision.Overrides) > 0 {
			rev.Overrides = maps.Clone(r.revision.Overrides)
			maps.Copy(rev.Overrides, r.o.Images)
		}
	}
	kept, err := directory.Snapshot(r.d)
	if err != nil {
		return rev, nil, nil, err
	}
	state := *r.rules
	state.Notices = nil
	state.Objects = nil
	for _, o := range r.want {
		state.Objects = append(state.Objects, withDigests(o))
	}
	for _, wl := range state.Workloads {
		maps.Copy(rev.Images, wl.Images)
	}
	sum := sha256.New()
	raw, err := json.Marshal(state.Objects)
	if err != nil {
		return rev, nil, nil, err
	}
	sum.Write(raw)
	for _, k := range kept {
		f := keptFile{Path: k.Path, Mode: k.Mode, Secret: k.Secret, Hash: file.Hash(k.Data)}
		rev.Files = append(rev.Files, f)
		sum.Write([]byte(f.Path + "\x00" + f.Hash + "\x00"))
	}
	rev.Content = hex.EncodeToString(sum.Sum(nil))
	rev.Source = r.source()
	return rev, &state, kept, nil
}

// source is the hash of what the files of the directory come to: without what a
// command line or a cluster adds. "" when they cannot be rendered.
func (r *run) source() string {
	o := *r
	o.o.Images, o.revision = nil, nil
	got, err := o.render(render.Facts{})
	if err != nil {
		return ""
	}
	raw, err := json.Marshal(got.Objects)
	if err != nil {
		return ""
	}
	return file.Hash(raw)
}

// withDigests is an object as the history keeps it: of a Secret only what its
// values hash to.
func withDigests(o *unstructured.Unstructured) *unstructured.Unstructured {
	out := o.DeepCopy()
	if out.GetKind() != "Secret" {
		return out
	}
	digests := map[string]any{}
	for _, field := range []string{"data", "stringData"} {
		values, _, _ := unstructured.NestedMap(out.Object, field)
		for k, v := range values {
			raw := []byte(fmt.Sprint(v))
			if plain, err := base64.StdEncoding.DecodeString(string(raw)); field == "data" && err == nil {
				raw = plain
			}
			digests[k] = "sha256:" + file.Hash(raw)
		}
		delete(out.Object, field)
	}
	if len(digests) > 0 {
		out.Object["data"] = digests
	}
	return out
}

// writeRevision puts a revision into the history, whole or not at all.
func writeRevision(dir string, rev Revision, state *render.Result, kept []directory.Kept) error {
	stage := filepath.Join(historyOf(dir), ".new")
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	if err := putFiles(stage, kept); err != nil {
		return err
	}
	if err := putJSON(filepath.Join(stage, "objects.json"), state); err != nil {
		return err
	}
	if err := putJSON(filepath.Join(stage, "revision.json"), rev); err != nil {
		return err
	}
	if err := os.Rename(stage, revisionDir(dir, rev.Number)); err != nil {
		return err
	}
	return syncDir(historyOf(dir))
}

// putFiles writes files that are kept into a directory of ours, for its owner
// only, and on the disk: they are what there is to go back to after a power loss.
func putFiles(stage string, kept []directory.Kept) error {
	dirs := []string{stage}
	for _, k := range kept {
		path := filepath.Join(stage, "files", filepath.FromSlash(k.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := putFile(path, k.Data); err != nil {
			return err
		}
		for d := filepath.Dir(path); d != stage && !slices.Contains(dirs, d); d = filepath.Dir(d) {
			dirs = append(dirs, d)
		}
	}
	if err := os.MkdirAll(stage, 0o700); err != nil {
		return err
	}
	for _, d := range dirs {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

func putFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // of our own record
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir puts the names in a directory on the disk, where a file system can.
func syncDir(path string) error {
	d, err := os.Open(path) //nolint:gosec // of our own record
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrInvalid) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// putJSON writes a file whole, and on the disk, for its owner only.
func putJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := putFile(tmp, append(raw, '\n')); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// forget removes what is older than the last revisions; never the newest good
// one, or there would be nothing to go back to.
func forget(dir string, all []Revision) error {
	good := slices.IndexFunc(all, func(r Revision) bool { return r.Good })
	for i, rev := range all {
		if i < keptAtMost || i == good {
			continue
		}
		if err := os.RemoveAll(revisionDir(dir, rev.Number)); err != nil {
			return err
		}
	}
	return nil
}

// open reads what a revision holds.
func (rev *Revision) open(dir string) (*render.Result, []directory.Kept, error) {
	at := revisionDir(dir, rev.Number)
	raw, err := os.ReadFile(filepath.Join(at, "objects.json")) //nolint:gosec // of our own history
	if err != nil {
		return nil, nil, unreadableHistory(dir, err)
	}
	state := &render.Result{}
	if err := json.Unmarshal(raw, state); err != nil {
		return nil, nil, unreadableHistory(dir, err)
	}
	kept, err := readFiles(at, rev.Files)
	if err != nil {
		return nil, nil, unreadableHistory(dir, fmt.Errorf("revision %d: %w", rev.Number, err))
	}
	return state, kept, nil
}

// readFiles reads files that were kept in a directory of ours.
func readFiles(at string, list []keptFile) ([]directory.Kept, error) {
	var kept []directory.Kept
	for _, f := range list {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return nil, fmt.Errorf("%s leads out of it", f.Path)
		}
		data, err := os.ReadFile(filepath.Join(at, "files", filepath.FromSlash(f.Path))) //nolint:gosec // of our own record
		if err == nil && file.Hash(data) != f.Hash {
			err = fmt.Errorf("%s is not what was recorded", f.Path)
		}
		if err != nil {
			return nil, err
		}
		kept = append(kept, directory.Kept{Path: f.Path, Data: data, Mode: f.Mode, Secret: f.Secret})
	}
	return kept, nil
}

// pick finds the revision to go back to: the one of that number, or for 0 the
// last good one that is not what the directory says now.
func pick(all []Revision, number int, source, where string) (*Revision, error) {
	help := "homelab deployment history --dir " + where
	if len(all) == 0 {
		return nil, fault.New(fault.Absent, "there is no revision of "+where+" to go back to", help)
	}
	if number != 0 {
		for i := range all {
			if all[i].Number == number {
				return &all[i], nil
			}
		}
		return nil, fault.New(fault.Absent, fmt.Sprintf("there is no revision %d of %s", number, where), help).
			Because(fmt.Sprintf("recorded are %d to %d, at most %d of them", all[len(all)-1].Number, all[0].Number, keptAtMost+1))
	}
	now := ""
	if all[0].Source == source {
		now = all[0].Content
	}
	for i := range all {
		if all[i].Good && all[i].Content != now {
			return &all[i], nil
		}
	}
	return nil, fault.New(fault.Absent, "there is no good revision of "+where+" to go back to", help).
		Because("a revision is good when its stack was seen up; a number names any other one")
}

// refused tells whether a restart would bring back what a rollback has left
// since the last good restart, from the very commits it was left at.
func (r *run) refused(_ context.Context) error {
	all, err := recordedIn(r.d.Path)
	if err != nil {
		return err
	}
	source := ""
	for _, rev := range all {
		if rev.Verb == "restart" && rev.Good {
			break
		}
		l := rev.Left
		if l == nil {
			continue
		}
		if source == "" {
			if source = r.source(); source == "" {
				return nil
			}
		}
		if rev.Source == source {
			continue // what was left was not in the files: an image of the command line
		}
		moved := l.Spec != "" && l.Spec != r.out.Spec.Commit || l.Stack != "" && l.Stack != r.out.Stack.Commit
		if l.Source == source && !moved {
			return fault.New(fault.Held, "this would bring back what a rollback has left", "homelab deployment restart --force --dir "+r.o.Dir).
				Because(fmt.Sprintf("revision %d went back to revision %d, and the sources have not moved on since", rev.Number, rev.Of))
		}
	}
	return nil
}

// copies are objects that stay what they are while others are compared and sent.
func copies(list []*unstructured.Unstructured) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, 0, len(list))
	for _, o := range list {
		out = append(out, o.DeepCopy())
	}
	return out
}
