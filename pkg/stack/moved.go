package stack

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"homelab/pkg/fault"
	"homelab/pkg/stack/apply"
	"homelab/pkg/stack/directory"
	"homelab/pkg/stack/file"
	"homelab/pkg/stack/render"
)

// placesKey is where a directory remembers the host paths that its volumes were
// applied with. The cluster knows them too, until it is deleted; the data stays.
const placesKey = "volumes"

// recorded is a host path as it is remembered: below the directory it is
// relative, since data moves along with it.
func recorded(dir, path string) string {
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return "./" + filepath.ToSlash(rel)
	}
	return path
}

// places reads where the volumes of a directory had their data when they were
// last applied, by name.
func places(dir string) (map[string]string, error) {
	state, err := file.ReadState(dir)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	raw, ok := state.Rest[placesKey]
	if !ok {
		return out, nil
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fault.New(fault.Unsafe, file.StatePath(dir)+" does not say where the volumes are", "").Because(err.Error()).From(err)
	}
	return out, nil
}

// keepPlaces remembers where the data of the volumes is that were applied. A
// volume that the spec lost keeps its place: its data is still there.
func (r *run) keepPlaces() error {
	if r.revision != nil {
		return nil // volumes stay where they are, whatever the revision says
	}
	was, err := places(r.d.Path)
	if err != nil {
		return err
	}
	for _, v := range r.rules.Volumes {
		delete(was, v.Name)
		if v.HostPath != "" {
			was[v.Name] = recorded(r.d.Path, v.HostPath)
		}
	}
	return writePlaces(r.d.Path, was)
}

// forgetPlaces forgets volumes that were deleted on purpose.
func (r *run) forgetPlaces(all []VolumeEnd) error {
	was, err := places(r.d.Path)
	if err != nil {
		return err
	}
	maps.DeleteFunc(was, func(name, _ string) bool {
		return slices.ContainsFunc(all, func(v VolumeEnd) bool { return v.Volume == name && v.Deleted })
	})
	return writePlaces(r.d.Path, was)
}

func writePlaces(dir string, all map[string]string) error {
	if len(all) == 0 {
		return directory.Keep(dir, placesKey, nil)
	}
	return directory.Keep(dir, placesKey, all)
}

// movedPlaces finds volumes that the spec looks for elsewhere than they were
// applied last. Of those that the cluster knows it is asked itself.
func (r *run) movedPlaces() ([]apply.Conflict, []file.Notice, error) {
	was, err := places(r.d.Path)
	if err != nil {
		return nil, nil, err
	}
	conflicts, notices := movedSince(r.d.Path, was, slices.DeleteFunc(slices.Clone(r.rules.Volumes), r.knows), r.o.AcceptVolumes)
	return conflicts, notices, nil
}

// knows tells whether the cluster has the claim or the PersistentVolume of a
// volume.
func (r *run) knows(v render.Volume) bool {
	return r.live != nil && (r.live.Objects[apply.Ref{Kind: "PersistentVolumeClaim", Namespace: r.scope.Namespace, Name: v.PVC}] != nil ||
		r.live.Objects[apply.Ref{Kind: "PersistentVolume", Name: v.PVC}] != nil)
}

// movedSince compares volumes with where they were.
func movedSince(dir string, was map[string]string, now []render.Volume, accepted []string) (conflicts []apply.Conflict, notices []file.Notice) {
	for _, v := range now {
		old := was[v.Name]
		if old == "" || v.HostPath != "" && old == recorded(dir, v.HostPath) {
			continue
		}
		if !filepath.IsAbs(old) {
			old = filepath.Join(dir, old)
		}
		to := v.HostPath
		if to == "" {
			to = "an empty volume of the cluster"
		}
		message := fmt.Sprintf("the data of volume %s was in %s when it was last applied, and the spec looks for it in %s", v.Name, old, to)
		if slices.Contains(accepted, v.Name) {
			notices = append(notices, file.Notice{Code: "volume-accepted", Level: file.Info, Message: message + "; accepted"})
			continue
		}
		conflicts = append(conflicts, apply.Conflict{
			Code: "volume-moved", Object: apply.Ref{Kind: "PersistentVolumeClaim", Name: v.PVC}, Volume: v.Name, Message: message,
			Fix: []string{"write the old place into volumes." + v.Name + " again, or move the data and add --accept-volume " + v.Name},
		})
	}
	return conflicts, notices
}
