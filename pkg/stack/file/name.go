package file

import "strings"

// dnsName returns s as part of a DNS label: lower case, "_" and "." as "-".
func dnsName(s string) string {
	return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(s))
}
