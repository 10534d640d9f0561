package rollout

import "homelab/pkg/fault"

// KindOf returns how a run ends whose workload came to o. cause is why its
// context ended; it tells the signals apart.
func KindOf(o Outcome, cause error) fault.Kind {
	switch o {
	case Ready:
		return fault.OK
	case Failed:
		return fault.Failed
	case Absent:
		return fault.Absent
	case Denied:
		return fault.Denied
	case Paused:
		return fault.Held
	case Superseded:
		return fault.Replaced
	case Unreachable:
		return fault.Unreachable
	case Timeout:
		return fault.Timeout
	case Interrupted:
		if k := fault.KindOf(cause); k == fault.Terminated {
			return k
		}
		return fault.Interrupted
	case Pending:
	}
	return fault.Bug
}
