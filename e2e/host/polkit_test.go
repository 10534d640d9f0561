package host

import (
	"testing"

	"github.com/dop251/goja"
)

// The rule on the page says yes to one user, unit and verb, and nothing to
// anything else. It runs where polkit's JavaScript has only what is here.
func TestPolkitRule(t *testing.T) {
	t.Parallel()
	vm := goja.New()
	if _, err := vm.RunString(`
		var polkit = {Result: {YES: "yes", NO: "no", AUTH_ADMIN: "auth_admin"}, rules: [], addRule: function (f) { this.rules.push(f); }};
		function ask(id, user, details) {
			var action = {id: id, lookup: function (k) { return details[k]; }};
			for (var i = 0; i < polkit.rules.length; i++) {
				var r = polkit.rules[i](action, {user: user, groups: [user], local: false, active: false});
				if (r) { return r; }
			}
			return "";
		}`); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.RunString(page(t, ruleOnPage)); err != nil {
		t.Fatal(err)
	}
	ask, _ := goja.AssertFunction(vm.Get("ask"))
	const id, user, unit = "org.freedesktop.systemd1.manage-units", "homelab-watch", "vm-www.service"
	type details map[string]any
	for _, c := range []struct {
		id, user string
		details  details
		want     string
	}{
		{id, user, details{"unit": unit, "verb": "restart"}, "yes"},
		{id, user, details{"unit": unit, "verb": "start"}, ""},
		{id, user, details{"unit": unit, "verb": "stop"}, ""},
		{id, user, details{"unit": unit, "verb": "try-restart"}, ""},
		{id, user, details{"unit": unit, "verb": "set-property"}, ""},
		{id, user, details{"unit": unit}, ""},
		{id, user, details{"verb": "restart"}, ""},
		{id, user, details{}, ""},
		{id, user, details{"unit": "vm-www.socket", "verb": "restart"}, ""},
		{id, user, details{"unit": "vm-www.service.d", "verb": "restart"}, ""},
		{id, user, details{"unit": "ssh.service", "verb": "restart"}, ""},
		{id, "root", details{"unit": unit, "verb": "restart"}, ""},
		{id, "homelab-watch2", details{"unit": unit, "verb": "restart"}, ""},
		{id, "", details{"unit": unit, "verb": "restart"}, ""},
		{"org.freedesktop.systemd1.manage-unit-files", user, details{"unit": unit, "verb": "restart"}, ""},
		{"org.freedesktop.systemd1.reload-daemon", user, details{}, ""},
		{"org.freedesktop.policykit.exec", user, details{"unit": unit, "verb": "restart"}, ""},
	} {
		got, err := ask(goja.Undefined(), vm.ToValue(c.id), vm.ToValue(c.user), vm.ToValue(map[string]any(c.details)))
		if err != nil || got.String() != c.want {
			t.Errorf("%s for %q, %v: %q, want %q (%v)", c.id, c.user, c.details, got, c.want, err)
		}
	}
}
