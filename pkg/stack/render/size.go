package render

import (
	"fmt"
	"math/big"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"homelab/pkg/stack/file"
)

// size reads an amount of memory or storage and writes it as the rules do.
//
// V1 reads K, KB and Ki alike as decimal, only KiB as binary, and writes whole
// decimal megabytes (what is less than one, as it is). V2 reads Ki and KiB as
// binary, the rest as decimal, and writes the amount itself. A bare number is
// bytes. Letters may be of either case. "" and 0 are no amount: "".
func size(q file.Quantity, rules file.Rules) (string, error) {
	text := strings.TrimSpace(string(q))
	if text == "" {
		return "", nil
	}
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(text)
	}
	number, unit := strings.TrimSuffix(text[:end], "."), strings.ToLower(strings.TrimSpace(text[end:]))
	n, ok := new(big.Rat).SetString(number)
	if !ok || len(number) > 30 {
		return "", notSize(text)
	}
	unit = strings.TrimSuffix(strings.TrimSuffix(unit, "s"), "yte") // bytes
	unit, b := strings.CutSuffix(unit, "b")
	unit, i := strings.CutSuffix(unit, "i")
	power := strings.Index("kmgtp", unit) + 1
	if len(unit) > 1 || power == 0 || unit == "" && i {
		return "", notSize(text)
	}
	binary := i && (rules != file.V1 || b)
	base := big.NewInt(1000)
	if binary {
		base = big.NewInt(1024)
	}
	if unit != "" {
		n.Mul(n, new(big.Rat).SetInt(new(big.Int).Exp(base, big.NewInt(int64(power)), nil)))
	}
	whole := new(big.Int).Quo(n.Num(), n.Denom())
	if !whole.IsInt64() {
		return "", fmt.Errorf("%q is more than any machine has", text)
	}
	bytes := whole.Int64()
	const megabyte = 1000 * 1000
	switch {
	case bytes == 0:
		return "", nil
	case rules == file.V1 && bytes >= megabyte:
		return fmt.Sprintf("%dM", bytes/megabyte), nil // 5000M, not 5G
	case binary:
		return resource.NewQuantity(bytes, resource.BinarySI).String(), nil
	default:
		return resource.NewQuantity(bytes, resource.DecimalSI).String(), nil
	}
}

func notSize(text string) error {
	return fmt.Errorf("%q is no size: write a number and one of K, M, G, T, P, Ki, Mi, Gi, Ti, Pi", text)
}

// cpus reads a number of processors. "" and 0 are none: "".
func cpus(q file.Quantity) (string, error) {
	text := strings.TrimSpace(string(q))
	if text == "" {
		return "", nil
	}
	if !isCPUs(text) {
		return "", fmt.Errorf("%q is no number of processors", text)
	}
	v, err := resource.ParseQuantity(strings.TrimSuffix(text, "."))
	if err != nil {
		return "", fmt.Errorf("%q is no number of processors", text)
	}
	if v.IsZero() {
		return "", nil
	}
	return v.String(), nil
}

// isCPUs reports whether text is a number of processors or of thousandths of
// one ("m"), short enough to be exact.
func isCPUs(text string) bool {
	digits := func(s string, least, most int) bool {
		return len(s) >= least && len(s) <= most && strings.Trim(s, "0123456789") == ""
	}
	if n, ok := strings.CutSuffix(text, "m"); ok {
		return digits(n, 1, 12)
	}
	whole, part, dot := strings.Cut(text, ".")
	if whole == "" {
		return dot && digits(part, 1, 9)
	}
	return digits(whole, 1, 9) && digits(part, 0, 9)
}
