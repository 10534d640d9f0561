package proof

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"
)

// Made with minisign 0.11, over "unikernel\n": with its own comment, with one
// for a job, and in the legacy format.
const (
	realKey    = "RWRevcIQ0OT/bqbkCZxVOPLB92NdC0PX51JzOYjaNMWJTJNaXFWPsOCr"
	realFile   = "unikernel\n"
	realOwn    = "untrusted comment: signature from minisign secret key\nRURevcIQ0OT/bitbdGC6qPwcX8TX4YrczInbK2ZbZB/1N5UZ2JNaU2pWpmZlWjJ91CK5o6aAYRor5WWKvItIAZ9uuxmycPz20g4=\ntrusted comment: timestamp:1795224384\tfile:www.hvt\thashed\nJBRsXWgVRWUlnHvhhqthMgXqU7jbhepY+pZrXTiNDaCZX657CXi28nd2tdgM/cvk3NfvBZn55b63tDdQmkpIBw==\n"
	realJob    = "untrusted comment: signature from minisign secret key\nRURevcIQ0OT/bitbdGC6qPwcX8TX4YrczInbK2ZbZB/1N5UZ2JNaU2pWpmZlWjJ91CK5o6aAYRor5WWKvItIAZ9uuxmycPz20g4=\ntrusted comment: job=www platform=debian-12\nCn3F0hmeE/GlQEcjim4sBOfPARodP9bgRy3MPewWLDZ7XO6onNY/xr0w3nOOL8NG2VaDXwuw3721jby73fXRDg==\n"
	realLegacy = "untrusted comment: signature from minisign secret key\nRWRevcIQ0OT/bixXfmeBg1WCHb78s4jAQSIgWxpeOfy315bjC7TsgWEzorEdzRUfXPhomLinQWoXWSWm9PoI6r00Oe+HBnjvOgA=\ntrusted comment: timestamp:1795224384\tfile:www.hvt\nGv7h1MJ2fOp6mjKOBYH2X7qQMeNQ+9BizQw5i9fxQezjj4o8T+sx1Z6Ok657sLC+KZvh7eW/i5YIjaBEHBggCA==\n"
)

// signer is somebody with a secret key.
type signer struct {
	Key
	secret ed25519.PrivateKey
}

func newSigner(id byte) signer {
	secret := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{id}, ed25519.SeedSize))
	return signer{Key{keyID(bytes.Repeat([]byte{id}, idSize)), [32]byte(secret.Public().(ed25519.PublicKey))}, secret}
}

func text(algorithm string, id keyID, sig []byte, comment string, global []byte) string {
	raw := append(append([]byte(algorithm), id[:]...), sig...)
	return "untrusted comment: made in a test\n" + base64.StdEncoding.EncodeToString(raw) + "\n" +
		"trusted comment: " + comment + "\n" + base64.StdEncoding.EncodeToString(global) + "\n"
}

func (s signer) signAs(algorithm, message, comment string) string {
	sig := ed25519.Sign(s.secret, []byte(message))
	return text(algorithm, s.id, sig, comment, ed25519.Sign(s.secret, append(slices.Clip(sig), comment...)))
}

func (s signer) sign(file, comment string) string {
	digest := blake2b.Sum512([]byte(file))
	return s.signAs(prehashed, string(digest[:]), comment)
}

// check is all that a signature must pass.
func check(sig, file string, keys []Key, tokens ...string) string {
	s, err := ParseSignature([]byte(sig))
	if err != nil {
		return err.Error()
	}
	k, err := s.By(keys, tokens)
	if err != nil {
		return err.Error()
	}
	if !s.Signs(k, blake2b.Sum512([]byte(file))) {
		return "another file"
	}
	return "good " + k.ID()
}

func key(t *testing.T, text string) Key {
	t.Helper()
	k, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What the program of that name writes is understood, and shown under the same
// names.
func TestRealSignatures(t *testing.T) {
	k := key(t, realKey)
	if k.ID() != "6EFFE4D010C2BD5E" || k.String() != realKey {
		t.Errorf("%s %s", k.ID(), k)
	}
	for _, tc := range []struct{ sig, file, token, want string }{
		{realOwn, realFile, "file:www.hvt", "good 6EFFE4D010C2BD5E"},
		{realJob, realFile, "job=www", "good 6EFFE4D010C2BD5E"},
		{realJob, realFile, "platform=debian-12", "good 6EFFE4D010C2BD5E"},
		{realOwn, realFile + " ", "file:www.hvt", "another file"},
		{realLegacy, realFile, "file:www.hvt", "legacy signature (Ed)"},
	} {
		if got := check(tc.sig, tc.file, []Key{k}, tc.token); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s", tc.token, got)
		}
	}
}

func TestParseKey(t *testing.T) {
	raw := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	good := newSigner(1).String()
	for name, tc := range map[string]struct{ in, want string }{
		"good":          {good, ""},
		"empty":         {"", "no minisign key"},
		"truncated":     {good[:len(good)-4], "39 bytes instead of 42"},
		"longer":        {good + "AAAA", "45 bytes"},
		"line end":      {good + "\n", "line end"},
		"a line inside": {good[:8] + "\n" + good[8:], "line end"},
		"whole file":    {"untrusted comment: minisign public key\n" + good, "line end"},
		"no base64":     {"RWQ.", "base64"},
		"url alphabet":  {strings.Repeat("-", 56), "base64"},
		"other kind":    {raw(append([]byte("Xd"), make([]byte, 40)...)), `algorithm "Xd"`},
		"hashed kind":   {raw(append([]byte("ED"), make([]byte, 40)...)), `algorithm "ED"`},
		"secret":        {raw(append([]byte("EdScB2"), bytes.Repeat([]byte{7}, secretSize-6)...)), "secret key"},
	} {
		k, err := ParseKey(tc.in)
		switch {
		case tc.want == "" && (err != nil || k.String() != tc.in):
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v", name, err)
		case err != nil && len(tc.in) > 8 && strings.Contains(err.Error(), tc.in):
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func TestSignatures(t *testing.T) {
	const file, comment = "the bytes", "timestamp:1\tjob=www platform=debian-12"
	me, you := newSigner(1), newSigner(2)
	impostor := newSigner(2)
	impostor.id = me.id // an id is a name that anybody can take
	good := me.sign(file, comment)
	lines := strings.SplitAfter(good, "\n")
	other := strings.SplitAfter(me.sign(file, "job=api platform=debian-12"), "\n")
	older := strings.SplitAfter(me.sign("older bytes", comment), "\n")
	b64 := base64.StdEncoding.EncodeToString
	tokens := []string{"job=www", "platform=debian-12"}
	for name, tc := range map[string]struct{ sig, want string }{
		"good":                           {good, "good 0101010101010101"},
		"without the last line end":      {strings.TrimSuffix(good, "\n"), "good"},
		"another untrusted comment":      {"untrusted comment: whatever\n" + strings.Join(lines[1:], ""), "good"},
		"others' signature":              {you.sign(file, comment), "key 0202020202020202, which is not trusted"},
		"others', under a trusted id":    {impostor.sign(file, comment), "not what key 0101010101010101 signed"},
		"another key's id":               {text(prehashed, you.id, make([]byte, 64), comment, make([]byte, 64)), "not trusted"},
		"another job's comment":          {me.sign(file, "job=api platform=debian-12"), "signed for job=api, not for job=www"},
		"another platform":               {me.sign(file, "job=www platform=freebsd-14"), "signed for platform=freebsd-14"},
		"no job":                         {me.sign(file, "platform=debian-12"), "does not say job=www"},
		"no comment":                     {me.sign(file, ""), "does not say job=www"},
		"a longer job":                   {me.sign(file, "job=www2 platform=debian-12"), "job=www2"},
		"the job within another word":    {me.sign(file, "xjob=www platform=debian-12"), "does not say job=www"},
		"two jobs":                       {me.sign(file, "job=www job=api platform=debian-12"), "signed for job=api"},
		"the same twice":                 {me.sign(file, comment+" job=www"), "good"},
		"case counts":                    {me.sign(file, "JOB=www platform=debian-12"), "does not say"},
		"comment of another signature":   {lines[0] + lines[1] + other[2] + lines[3], "not what key"},
		"comment with its own seal":      {lines[0] + older[1] + other[2] + other[3], "not what key"},
		"seal of another signature":      {lines[0] + lines[1] + lines[2] + older[3], "not what key"},
		"signature of other bytes":       {strings.Join(older, ""), "another file"},
		"legacy":                         {me.signAs(keyAlgorithm, file, comment), "legacy"},
		"legacy relabelled":              {me.signAs(prehashed, file, comment), "another file"},
		"the hash signed as legacy":      {me.signAs(keyAlgorithm, string(func() []byte { d := blake2b.Sum512([]byte(file)); return d[:] }()), comment), "legacy"},
		"unknown algorithm":              {me.signAs("EX", file, comment), `algorithm "EX"`},
		"empty":                          {"", "1 lines instead of 4"},
		"a page":                         {"<!DOCTYPE html>\n<p>\n<p>\n<p>\n", "does not begin"},
		"one more line":                  {good + "\n", "5 lines"},
		"something after it":             {good + "x", "5 lines"},
		"two signatures":                 {good + good, "8 lines"},
		"no prefix":                      {"comment\n" + strings.Join(lines[1:], ""), "does not begin"},
		"no trusted prefix":              {lines[0] + lines[1] + "comment: x\n" + lines[3], "third line"},
		"carriage returns":               {strings.ReplaceAll(good, "\n", "\r\n"), "control characters"},
		"a return inside base64":         {strings.Replace(good, "RU", "R\rU", 1), "control characters"},
		"an escape in the comment":       {strings.Replace(good, "timestamp", "\x1b[2J", 1), "control characters"},
		"invalid UTF-8":                  {strings.Replace(good, "timestamp", "\xff", 1), "control characters"},
		"short signature":                {lines[0] + b64(make([]byte, 73)) + "\n" + lines[2] + lines[3], "73 bytes"},
		"long signature":                 {lines[0] + b64(make([]byte, 75)) + "\n" + lines[2] + lines[3], "75 bytes"},
		"short seal":                     {lines[0] + lines[1] + lines[2] + b64(make([]byte, 63)) + "\n", "63 bytes"},
		"a signature as its own seal":    {lines[0] + lines[1] + lines[2] + lines[1], "74 bytes"},
		"spaces":                         {lines[0] + " " + lines[1] + lines[2] + lines[3], "base64"},
		"meaningless bits":               {lines[0] + lines[1] + lines[2] + strings.Replace(lines[3], "==", "", 1), "base64"},
		"oversized":                      {"untrusted comment: " + strings.Repeat("x", MaxSignature) + "\n" + strings.Join(lines[1:], ""), "more than 16384 bytes"},
		"as large as one can be, signed": {me.sign(file, comment+"\t"+strings.Repeat("x", 8000)), "good"},
	} {
		if got := check(tc.sig, file, []Key{you.Key, me.Key}[1:], tokens...); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	// Of two keys either will do, also if both have one id.
	for _, keys := range [][]Key{{me.Key, you.Key}, {you.Key, me.Key}, {impostor.Key, me.Key}, {me.Key, impostor.Key}} {
		if got := check(good, file, keys, tokens...); got != "good 0101010101010101" {
			t.Errorf("%v: %s", keys, got)
		}
	}
	if got := check(good, file, nil, tokens...); !strings.Contains(got, "not trusted") {
		t.Error(got)
	}
}

// No shorter text and no other byte of what is trusted passes.
func TestEveryByteCounts(t *testing.T) {
	const file, comment = "the bytes", "timestamp:1\tfile:www.hvt"
	me := newSigner(1)
	good := me.sign(file, comment)
	for n := range len(good) - 1 {
		if got := check(good[:n], file, []Key{me.Key}, "file:www.hvt"); strings.HasPrefix(got, "good") {
			t.Fatalf("%d of %d bytes: %s", n, len(good), got)
		}
	}
	for n := strings.Index(good, "\n"); n < len(good)-1; n++ {
		for _, x := range []byte{1, 2, 0x20, 0x40} {
			b := []byte(good)
			b[n] ^= x
			if got := check(string(b), file, []Key{me.Key}, "file:www.hvt"); strings.HasPrefix(got, "good") {
				t.Fatalf("byte %d changed from %q to %q: %s", n, good[n], b[n], got)
			}
		}
	}
}

func TestTokens(t *testing.T) {
	for _, tc := range []struct{ comment, token, want string }{
		{"timestamp:1\tfile:www.hvt\thashed", "file:www.hvt", ""},
		{"file:www.hvt", "file:www.hvt", ""},
		{"a file:www.hvt b", "file:www.hvt", ""},
		{"file:www.hvt.old", "file:www.hvt", "signed for file:www.hvt.old"},
		{"file:../www.hvt", "file:www.hvt", "signed for"},
		{"file=www.hvt", "file:www.hvt", "does not say"},
		{"timestamp:1\tfile:my www.hvt\thashed", "file:my www.hvt", ""},
		{"file:my www.hvt", "file:www.hvt", "signed for file:my"},
		{"x file:my www.hvt", "file:my www.hvt", "does not say"},
		{"job=a b\tplatform=p", "job=a b", ""},
		{"job=a\tplatform=p", "job=a b", "signed for job=a,"},
		{"", "file:x", "does not say"},
	} {
		err := holds(tc.comment, tc.token)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q, %q: %v", tc.comment, tc.token, err)
		}
	}
}

func FuzzParseSignature(f *testing.F) {
	f.Add([]byte(realOwn))
	f.Add([]byte(realLegacy))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSignature(text)
		if err == nil && (len(text) > MaxSignature || strings.ContainsAny(s.comment, "\r\n")) {
			t.Errorf("%q is taken", text)
		}
	})
}
