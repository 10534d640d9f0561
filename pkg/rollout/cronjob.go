package rollout

// cronJob is gated only: its next run will use the image, and no run is waited
// for.
func (a *assessor) cronJob() {
	if a.c.NoGate || a.c.Expected.Empty() && a.c.ChangedSince.IsZero() {
		a.fails(ClassGate, "NothingToWaitFor", "a cronjob has no rollout, and no image is expected")
		return
	}
	a.warn("gate only: nothing was run")
	if a.t.Suspended {
		a.warn("the cronjob is suspended")
	}
	a.ready(false, "%s is set for its next run", a.name())
}
