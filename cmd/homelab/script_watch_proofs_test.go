package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"

	"golang.org/x/crypto/blake2b"

	"homelab/internal/buildersim"
)

// minisign signs as the program of that name does, with a key that its number
// makes.
type minisign struct {
	id     []byte
	secret ed25519.PrivateKey
}

func newMinisign(n byte) minisign {
	return minisign{bytes.Repeat([]byte{n}, 8), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))}
}

// key is what --minisign takes.
func (m minisign) key() string {
	return base64.StdEncoding.EncodeToString(append(append([]byte("Ed"), m.id...), m.secret[ed25519.SeedSize:]...))
}

func (m minisign) sign(text, comment string) []byte {
	digest := blake2b.Sum512([]byte(text))
	sig := ed25519.Sign(m.secret, digest[:])
	seal := ed25519.Sign(m.secret, append(slices.Clip(sig), comment...))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "untrusted comment: x\n%s\ntrusted comment: %s\n%s\n", b64(append(append([]byte("ED"), m.id...), sig...)), comment, b64(seal))
}

// prove is what is done about proofs: "signed TEXT COMMENT", a newer build with
// a signature by the first key beside it; "forged TEXT COMMENT", by the second;
// "sign PATH TEXT COMMENT" writes the signature of a file of that path;
// "rebuilt TEXT", the second builder-web has built it too.
func (b *builds) prove(args []string) (known bool) {
	switch {
	case len(args) == 3 && (args[0] == "signed" || args[0] == "forged"):
		m := newMinisign(map[string]byte{"signed": 1, "forged": 2}[args[0]])
		b.last = b.web.Add(buildersim.Build{
			Job: "www", Start: b.start(b.n), Bytes: []byte(args[1]),
			Files: map[string][]byte{"bin/www.hvt.minisig": m.sign(args[1], args[2])},
		})
	case len(args) == 4 && args[0] == "sign":
		b.files.Put(args[1]+".minisig", newMinisign(1).sign(args[2], args[3]), b.start(b.n))
	case len(args) == 2 && args[0] == "rebuilt":
		b.second.Add(buildersim.Build{Job: "copy", UUID: fmt.Sprintf("22222222-0000-4000-8000-%012d", b.n), Start: b.start(b.n), Bytes: []byte(args[1])})
	default:
		return false
	}
	return true
}
