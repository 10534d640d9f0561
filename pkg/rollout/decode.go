package rollout

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"homelab/pkg/ui"
)

// The structs below name what is read of an object and nothing else; what they
// do not name still counts when templates are compared, because those are
// compared as JSON.

type jsonMeta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               string            `json:"uid"`
	ResourceVersion   string            `json:"resourceVersion"`
	Generation        int64             `json:"generation"`
	CreationTimestamp time.Time         `json:"creationTimestamp"`
	DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
	DeletionGrace     int64             `json:"deletionGracePeriodSeconds"`
	Finalizers        []string          `json:"finalizers"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	OwnerReferences   []struct {
		Kind       string `json:"kind"`
		Name       string `json:"name"`
		UID        string `json:"uid"`
		Controller *bool  `json:"controller"`
	} `json:"ownerReferences"`
	ManagedFields []jsonManager `json:"managedFields"`
}

// meta keeps the annotations that keep accepts; nil keeps none.
func (m jsonMeta) meta(keep func(string) bool) Meta {
	out := Meta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Generation: m.Generation, Created: m.CreationTimestamp, DeletionGrace: seconds(m.DeletionGrace),
		Finalizers: m.Finalizers, Labels: m.Labels,
	}
	if m.DeletionTimestamp != nil {
		out.Deleted = *m.DeletionTimestamp
	}
	for k, v := range m.Annotations {
		if keep == nil || !keep(k) {
			continue
		}
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[k] = v
	}
	for _, o := range m.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			out.Owner = Owner{Kind: o.Kind, Name: o.Name, UID: o.UID}
		}
	}
	return out
}

const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
)

// keepAnnotation accepts what tells a revision or who moves images.
func keepAnnotation(key string) bool {
	if key == revisionAnnotation || key == historyAnnotation {
		return true
	}
	domain, _, ok := strings.Cut(key, "/")
	return ok && (domain == "keel.sh" || domain == "argocd.argoproj.io" || domain == "meta.helm.sh" ||
		strings.HasSuffix(domain, ".fluxcd.io"))
}

type jsonCondition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"`
	Reason             string    `json:"reason"`
	Message            string    `json:"message"`
	LastTransitionTime time.Time `json:"lastTransitionTime"`
	LastUpdateTime     time.Time `json:"lastUpdateTime"`
}

func conditions(in []jsonCondition) []Condition {
	var out []Condition
	for _, c := range in {
		out = append(out, Condition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, Message: ui.Clean(c.Message),
			Transition: c.LastTransitionTime, Update: c.LastUpdateTime,
		})
	}
	return out
}

type jsonProbe struct {
	InitialDelaySeconds int64  `json:"initialDelaySeconds"`
	TimeoutSeconds      *int64 `json:"timeoutSeconds"`
	PeriodSeconds       *int64 `json:"periodSeconds"`
	SuccessThreshold    *int32 `json:"successThreshold"`
	FailureThreshold    *int32 `json:"failureThreshold"`
}

// probe fills in the server's defaults, which a served object always carries.
func (p *jsonProbe) probe() *Probe {
	if p == nil {
		return nil
	}
	return &Probe{
		InitialDelay: seconds(p.InitialDelaySeconds),
		Timeout:      seconds(or(p.TimeoutSeconds, 1)),
		Period:       seconds(or(p.PeriodSeconds, 10)),
		Successes:    or(p.SuccessThreshold, 1),
		Failures:     or(p.FailureThreshold, 3),
	}
}

type jsonContainer struct {
	Name           string     `json:"name"`
	Image          string     `json:"image"`
	RestartPolicy  string     `json:"restartPolicy"`
	ReadinessProbe *jsonProbe `json:"readinessProbe"`
	Env            []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"env"`
	Resources struct {
		Limits map[string]any `json:"limits"`
	} `json:"resources"`
}

func (c jsonContainer) memory() string {
	if v, ok := c.Resources.Limits["memory"]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

type jsonPodSpec struct {
	InitContainers []jsonContainer   `json:"initContainers"`
	Containers     []jsonContainer   `json:"containers"`
	RestartPolicy  string            `json:"restartPolicy"`
	NodeName       string            `json:"nodeName"`
	NodeSelector   map[string]string `json:"nodeSelector"`
	ServiceAccount string            `json:"serviceAccountName"`
	PullSecrets    []struct {
		Name string `json:"name"`
	} `json:"imagePullSecrets"`
	ReadinessGates []struct {
		ConditionType string `json:"conditionType"`
	} `json:"readinessGates"`
	Grace   int64 `json:"terminationGracePeriodSeconds"`
	Volumes []struct {
		Claim *struct {
			Name string `json:"claimName"`
		} `json:"persistentVolumeClaim"`
	} `json:"volumes"`
}

// template trims a pod template. Annotations and labels stay, as any of them
// may name the revision; values too long to do so are dropped.
func template(raw json.RawMessage) (Template, error) {
	var in struct {
		Metadata struct {
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec jsonPodSpec `json:"spec"`
	}
	if len(raw) == 0 {
		return Template{}, errors.New("no pod template")
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Template{}, fmt.Errorf("pod template: %w", err)
	}
	hash, shape, err := fingerprint(raw)
	if err != nil {
		return Template{}, fmt.Errorf("pod template: %w", err)
	}
	const longest = 256
	for k, v := range in.Metadata.Annotations {
		if len(v) > longest {
			delete(in.Metadata.Annotations, k)
		}
	}
	out := Template{
		Hash: hash, Shape: shape, Labels: in.Metadata.Labels, Annotations: in.Metadata.Annotations,
		ServiceAccount: in.Spec.ServiceAccount, NodeSelector: in.Spec.NodeSelector,
		RestartPolicy: in.Spec.RestartPolicy, TerminationWait: seconds(in.Spec.Grace),
	}
	for _, s := range in.Spec.PullSecrets {
		out.PullSecrets = append(out.PullSecrets, s.Name)
	}
	for _, g := range in.Spec.ReadinessGates {
		out.ReadinessGates = append(out.ReadinessGates, g.ConditionType)
	}
	add := func(c jsonContainer, init bool) {
		keep := Container{
			Name: c.Name, Image: c.Image, Init: init, Sidecar: init && c.RestartPolicy == "Always",
			Readiness: c.ReadinessProbe.probe(), MemoryLimit: c.memory(),
		}
		for _, e := range c.Env {
			if e.Value != "" && slices.Contains(revisionEnv(), e.Name) {
				if keep.Env == nil {
					keep.Env = map[string]string{}
				}
				keep.Env[e.Name] = e.Value
			}
		}
		out.Containers = append(out.Containers, keep)
	}
	for _, c := range in.Spec.InitContainers {
		add(c, true)
	}
	for _, c := range in.Spec.Containers {
		add(c, false)
	}
	return out, nil
}

// fingerprint hashes a template as canonical JSON: keys sorted, null the same
// as absent, and without the label that the Deployment controller adds to the
// copies it makes. shape leaves out empty values and the patch directive of a
// stored revision as well.
func fingerprint(raw []byte) (hash, shape string, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // a number is compared as it is written
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return "", "", err
	}
	if meta, ok := v["metadata"].(map[string]any); ok {
		if labels, ok := meta["labels"].(map[string]any); ok {
			delete(labels, "pod-template-hash")
		}
	}
	full, _ := prune(v, false)
	if hash, err = digestOf(full); err != nil {
		return "", "", err
	}
	delete(v, "$patch")
	bare, _ := prune(v, true)
	shape, err = digestOf(bare)
	return hash, shape, err
}

// prune returns v without nulls, and without empty values if asked; keep is
// false when v itself is such a value.
func prune(v any, empties bool) (out any, keep bool) {
	switch v := v.(type) {
	case nil:
		return nil, false
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			if e, ok := prune(e, empties); ok {
				m[k] = e
			}
		}
		return m, !empties || len(m) > 0
	case []any:
		l := make([]any, 0, len(v))
		for _, e := range v {
			e, _ := prune(e, empties) // an element keeps its place
			l = append(l, e)
		}
		return l, !empties || len(l) > 0
	case string:
		return v, !empties || v != ""
	default:
		return v, true
	}
}

func digestOf(v any) (string, error) {
	text, err := json.Marshal(v) // sorts keys
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

type jsonSelector struct {
	MatchLabels      map[string]string `json:"matchLabels"`
	MatchExpressions []struct {
		Key      string   `json:"key"`
		Operator string   `json:"operator"`
		Values   []string `json:"values"`
	} `json:"matchExpressions"`
}

func (s jsonSelector) selector() Selector {
	out := Selector{Labels: s.MatchLabels}
	for _, e := range s.MatchExpressions {
		out.Exprs = append(out.Exprs, Requirement{Key: e.Key, Operator: e.Operator, Values: e.Values})
	}
	return out
}

type jsonStatus struct {
	ObservedGeneration   int64           `json:"observedGeneration"`
	Replicas             int32           `json:"replicas"`
	UpdatedReplicas      int32           `json:"updatedReplicas"`
	ReadyReplicas        int32           `json:"readyReplicas"`
	AvailableReplicas    int32           `json:"availableReplicas"`
	TerminatingReplicas  *int32          `json:"terminatingReplicas"`
	CurrentRevision      string          `json:"currentRevision"`
	UpdateRevision       string          `json:"updateRevision"`
	DesiredNumber        int32           `json:"desiredNumberScheduled"`
	CurrentNumber        int32           `json:"currentNumberScheduled"`
	UpdatedNumber        int32           `json:"updatedNumberScheduled"`
	NumberReady          int32           `json:"numberReady"`
	NumberAvailable      int32           `json:"numberAvailable"`
	NumberMisscheduled   int32           `json:"numberMisscheduled"`
	Conditions           []jsonCondition `json:"conditions"`
	FullyLabeledReplicas int32           `json:"fullyLabeledReplicas"`
}

func (s jsonStatus) status(k Kind) Status {
	out := Status{
		Observed: s.ObservedGeneration, Replicas: s.Replicas, Updated: s.UpdatedReplicas,
		Ready: s.ReadyReplicas, Available: s.AvailableReplicas, Terminating: s.TerminatingReplicas,
		CurrentRevision: s.CurrentRevision, UpdateRevision: s.UpdateRevision,
	}
	if k == DaemonSet {
		out.Replicas, out.Updated, out.Ready, out.Available = s.DesiredNumber, s.UpdatedNumber, s.NumberReady, s.NumberAvailable
		out.Misscheduled, out.Current = s.NumberMisscheduled, s.CurrentNumber
	}
	return out
}

// DecodeTarget reads a workload of kind. The error names what is wrong with
// the JSON; an object without a UID or a template is one too.
func DecodeTarget(kind Kind, raw []byte) (Target, error) {
	type rolling struct {
		MaxUnavailable any   `json:"maxUnavailable"`
		Partition      int32 `json:"partition"`
	}
	type strategy struct {
		Type          string   `json:"type"`
		RollingUpdate *rolling `json:"rollingUpdate"`
	}
	var in struct {
		Metadata jsonMeta `json:"metadata"`
		Spec     struct {
			Replicas                *int32          `json:"replicas"`
			Paused                  bool            `json:"paused"`
			Suspend                 bool            `json:"suspend"`
			MinReadySeconds         int64           `json:"minReadySeconds"`
			ProgressDeadlineSeconds *int64          `json:"progressDeadlineSeconds"`
			Strategy                strategy        `json:"strategy"`
			UpdateStrategy          strategy        `json:"updateStrategy"`
			PodManagementPolicy     string          `json:"podManagementPolicy"`
			Selector                jsonSelector    `json:"selector"`
			Template                json.RawMessage `json:"template"`
			Ordinals                struct {
				Start int32 `json:"start"`
			} `json:"ordinals"`
			JobTemplate struct {
				Spec struct {
					Template json.RawMessage `json:"template"`
				} `json:"spec"`
			} `json:"jobTemplate"`
		} `json:"spec"`
		Status jsonStatus `json:"status"`
	}
	if kind == CronJob {
		// A CronJob's status shares names with other meanings, and none is needed.
		var bare struct {
			Metadata json.RawMessage `json:"metadata"`
			Spec     json.RawMessage `json:"spec"`
		}
		if err := json.Unmarshal(raw, &bare); err != nil {
			return Target{}, fmt.Errorf("%s: %w", kind, err)
		}
		raw, _ = json.Marshal(bare) //nolint:errchkjson // both parts were just read from JSON
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Target{}, fmt.Errorf("%s: %w", kind, err)
	}
	if in.Metadata.UID == "" || in.Metadata.Name == "" {
		return Target{}, fmt.Errorf("%s: no name or uid", kind)
	}
	t := Target{
		Meta: in.Metadata.meta(keepAnnotation), Kind: kind, Replicas: or(in.Spec.Replicas, 1),
		Paused: in.Spec.Paused, Suspended: in.Spec.Suspend, MinReady: seconds(in.Spec.MinReadySeconds),
		Parallel: in.Spec.PodManagementPolicy == "Parallel", FirstOrdinal: in.Spec.Ordinals.Start,
		Selector: in.Spec.Selector.selector(), Status: in.Status.status(kind), Conditions: conditions(in.Status.Conditions),
	}
	// The largest number is how a deadline is switched off.
	if d := or(in.Spec.ProgressDeadlineSeconds, 0); kind == Deployment && d != math.MaxInt32 {
		t.ProgressDeadline = seconds(d)
	}
	s, raw := in.Spec.UpdateStrategy, in.Spec.Template
	paths := []string{"f:spec", "f:template", "f:spec"}
	switch kind {
	case Deployment:
		s = in.Spec.Strategy
	case CronJob:
		raw = in.Spec.JobTemplate.Spec.Template
		paths = []string{"f:spec", "f:jobTemplate", "f:spec", "f:template", "f:spec"}
	case StatefulSet, DaemonSet:
	}
	if t.Strategy = s.Type; t.Strategy == "" {
		t.Strategy = RollingUpdate
	}
	if s.RollingUpdate != nil && t.Strategy == RollingUpdate {
		if s.RollingUpdate.MaxUnavailable != nil {
			t.MaxUnavailable = fmt.Sprint(s.RollingUpdate.MaxUnavailable)
		}
		if kind == StatefulSet {
			t.Partition = s.RollingUpdate.Partition
		}
	}
	var err error
	if t.Template, err = template(raw); err != nil {
		return Target{}, fmt.Errorf("%s %s: %w", kind, t.Name, err)
	}
	t.Managers = managers(in.Metadata.ManagedFields, paths)
	return t, nil
}

// DecodeReplicaSet reads a ReplicaSet.
func DecodeReplicaSet(raw []byte) (ReplicaSet, error) {
	var in struct {
		Metadata jsonMeta `json:"metadata"`
		Spec     struct {
			Replicas *int32          `json:"replicas"`
			Template json.RawMessage `json:"template"`
		} `json:"spec"`
		Status jsonStatus `json:"status"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return ReplicaSet{}, fmt.Errorf("replicaset: %w", err)
	}
	t, err := template(in.Spec.Template)
	if err != nil {
		return ReplicaSet{}, fmt.Errorf("replicaset %s: %w", in.Metadata.Name, err)
	}
	return ReplicaSet{
		Meta: in.Metadata.meta(keepAnnotation), Replicas: or(in.Spec.Replicas, 1), Template: trimmed(t),
		Status: in.Status.status(Deployment), Conditions: conditions(in.Status.Conditions),
	}, nil
}

// DecodeRevision reads a ControllerRevision. The controllers store the
// template below spec.template of a patch; a revision of another form has no
// template, which equals none.
func DecodeRevision(raw []byte) (Revision, error) {
	var in struct {
		Metadata jsonMeta `json:"metadata"`
		Revision int64    `json:"revision"`
		Data     struct {
			Spec struct {
				Template json.RawMessage `json:"template"`
			} `json:"spec"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Revision{}, fmt.Errorf("controllerrevision: %w", err)
	}
	out := Revision{Meta: in.Metadata.meta(nil), Number: in.Revision, Hash: in.Metadata.Labels["controller-revision-hash"]}
	if len(in.Data.Spec.Template) > 0 {
		t, err := template(in.Data.Spec.Template)
		if err != nil {
			return Revision{}, fmt.Errorf("controllerrevision %s: %w", in.Metadata.Name, err)
		}
		out.Template = trimmed(t)
	}
	return out, nil
}

// trimmed drops what is read of the target's own template only: a history of
// ten revisions times fifty workloads is kept in memory.
func trimmed(t Template) Template {
	return Template{Hash: t.Hash, Shape: t.Shape, Containers: t.Containers}
}

type jsonState struct {
	Waiting *struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"waiting"`
	Running *struct {
		StartedAt time.Time `json:"startedAt"`
	} `json:"running"`
	Terminated *struct {
		ExitCode   int32     `json:"exitCode"`
		Reason     string    `json:"reason"`
		Message    string    `json:"message"`
		StartedAt  time.Time `json:"startedAt"`
		FinishedAt time.Time `json:"finishedAt"`
	} `json:"terminated"`
}

func (s jsonState) state() State {
	switch {
	case s.Running != nil:
		return State{Is: Running, Started: s.Running.StartedAt}
	case s.Terminated != nil:
		return State{
			Is: Terminated, Reason: s.Terminated.Reason, Message: ui.Clean(s.Terminated.Message), ExitCode: s.Terminated.ExitCode,
			Started: s.Terminated.StartedAt, Finished: s.Terminated.FinishedAt,
		}
	case s.Waiting != nil:
		return State{Is: Waiting, Reason: s.Waiting.Reason, Message: ui.Clean(s.Waiting.Message)}
	default:
		return State{}
	}
}

type jsonContainerStatus struct {
	Name         string    `json:"name"`
	ImageID      string    `json:"imageID"`
	Ready        bool      `json:"ready"`
	Started      *bool     `json:"started"`
	RestartCount int32     `json:"restartCount"`
	State        jsonState `json:"state"`
	LastState    jsonState `json:"lastState"`
}

// DecodePod reads a pod. Ephemeral containers are left out: they belong to
// whoever debugs, not to the revision.
func DecodePod(raw []byte) (Pod, error) {
	var in struct {
		Metadata jsonMeta    `json:"metadata"`
		Spec     jsonPodSpec `json:"spec"`
		Status   struct {
			Phase      string                `json:"phase"`
			Reason     string                `json:"reason"`
			Message    string                `json:"message"`
			StartTime  time.Time             `json:"startTime"`
			Conditions []jsonCondition       `json:"conditions"`
			Init       []jsonContainerStatus `json:"initContainerStatuses"`
			Main       []jsonContainerStatus `json:"containerStatuses"`
		} `json:"status"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Pod{}, fmt.Errorf("pod: %w", err)
	}
	if in.Metadata.UID == "" {
		return Pod{}, fmt.Errorf("pod %s: no uid", in.Metadata.Name)
	}
	p := Pod{
		Meta: in.Metadata.meta(nil), Node: in.Spec.NodeName, Phase: in.Status.Phase, Reason: in.Status.Reason,
		Message: ui.Clean(in.Status.Message), Started: in.Status.StartTime, Conditions: conditions(in.Status.Conditions),
		RestartPolicy: in.Spec.RestartPolicy,
	}
	for _, g := range in.Spec.ReadinessGates {
		p.Gates = append(p.Gates, g.ConditionType)
	}
	for _, v := range in.Spec.Volumes {
		if v.Claim != nil {
			p.Claims = append(p.Claims, v.Claim.Name)
		}
	}
	add := func(c jsonContainer, init bool, seen []jsonContainerStatus) {
		out := ContainerStatus{
			Name: c.Name, Image: c.Image, Init: init, Sidecar: init && c.RestartPolicy == "Always",
			Probe: c.ReadinessProbe.probe(), Memory: c.memory(),
		}
		if i := slices.IndexFunc(seen, func(s jsonContainerStatus) bool { return s.Name == c.Name }); i >= 0 {
			s := seen[i]
			out.Seen, out.ImageID, out.Ready, out.Restarts = true, s.ImageID, s.Ready, s.RestartCount
			out.Started = s.Started != nil && *s.Started
			out.State, out.Last = s.State.state(), s.LastState.state()
		}
		p.Containers = append(p.Containers, out)
	}
	for _, c := range in.Spec.InitContainers {
		add(c, true, in.Status.Init)
	}
	for _, c := range in.Spec.Containers {
		add(c, false, in.Status.Main)
	}
	return p, nil
}

// DecodeEvent reads an event of either API: counts and times come from the
// series where there is one.
func DecodeEvent(raw []byte) (Event, error) {
	var in struct {
		Metadata  jsonMeta  `json:"metadata"`
		Type      string    `json:"type"`
		Reason    string    `json:"reason"`
		Message   string    `json:"message"`
		Note      string    `json:"note"`
		Count     int32     `json:"count"`
		First     time.Time `json:"firstTimestamp"`
		Last      time.Time `json:"lastTimestamp"`
		EventTime time.Time `json:"eventTime"`
		Series    *struct {
			Count int32     `json:"count"`
			Last  time.Time `json:"lastObservedTime"`
		} `json:"series"`
		Involved jsonReference `json:"involvedObject"`
		Regards  jsonReference `json:"regarding"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Event{}, fmt.Errorf("event: %w", err)
	}
	ref := in.Involved
	if ref.UID == "" {
		ref = in.Regards
	}
	e := Event{
		Name: in.Metadata.Name, Type: in.Type, Reason: in.Reason, Message: in.Message, Count: max(in.Count, 1),
		First: in.First, Last: in.Last, Involved: Owner{Kind: ref.Kind, Name: ref.Name, UID: ref.UID}, FieldPath: ref.FieldPath,
	}
	if e.Message == "" {
		e.Message = in.Note
	}
	e.Message = ui.Clean(e.Message)
	if e.First.IsZero() {
		e.First = in.EventTime
	}
	if e.Last.IsZero() {
		e.Last = e.First
	}
	if in.Series != nil {
		e.Count = max(e.Count, in.Series.Count)
		if in.Series.Last.After(e.Last) {
			e.Last = in.Series.Last
		}
	}
	return e, nil
}

type jsonReference struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	FieldPath string `json:"fieldPath"`
}

// DecodeNode reads a node.
func DecodeNode(raw []byte) (Node, error) {
	var in struct {
		Metadata jsonMeta `json:"metadata"`
		Spec     struct {
			Unschedulable bool `json:"unschedulable"`
			Taints        []struct {
				Key string `json:"key"`
			} `json:"taints"`
		} `json:"spec"`
		Status struct {
			Conditions []jsonCondition `json:"conditions"`
		} `json:"status"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Node{}, fmt.Errorf("node: %w", err)
	}
	n := Node{Name: in.Metadata.Name, Unschedulable: in.Spec.Unschedulable}
	for _, t := range in.Spec.Taints {
		n.Taints = append(n.Taints, t.Key)
	}
	if c, ok := condition(conditions(in.Status.Conditions), "Ready"); ok {
		n.Ready, n.ReadyReason, n.Since = c.Status, c.Reason, c.Transition
	}
	return n, nil
}

// DecodeClaim reads a PersistentVolumeClaim.
func DecodeClaim(raw []byte) (Claim, error) {
	var in struct {
		Metadata jsonMeta `json:"metadata"`
		Spec     struct {
			StorageClassName string `json:"storageClassName"`
		} `json:"spec"`
		Status struct {
			Phase string `json:"phase"`
		} `json:"status"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Claim{}, fmt.Errorf("persistentvolumeclaim: %w", err)
	}
	return Claim{Meta: in.Metadata.meta(nil), Phase: in.Status.Phase, StorageClass: in.Spec.StorageClassName}, nil
}

// DecodeNamespace reads a namespace.
func DecodeNamespace(raw []byte) (Namespace, error) {
	var in struct {
		Metadata jsonMeta `json:"metadata"`
		Status   struct {
			Phase string `json:"phase"`
		} `json:"status"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return Namespace{}, fmt.Errorf("namespace: %w", err)
	}
	return Namespace{Meta: in.Metadata.meta(nil), Phase: in.Status.Phase}, nil
}

func seconds(n int64) time.Duration {
	// Beyond a century it is a mistake, and it must not wrap around.
	return time.Duration(min(max(n, 0), 100*365*24*3600)) * time.Second
}

func or[T any](p *T, absent T) T {
	if p == nil {
		return absent
	}
	return *p
}
