package proof

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/blake2b"
)

// The format is that of minisign (https://jedisct1.github.io/minisign/): keys
// and signatures are base64 of two letters, an id of eight bytes, and the bytes
// themselves.
const (
	idSize        = 8
	keySize       = 2 + idSize + ed25519.PublicKeySize
	secretSize    = 158
	signatureSize = 2 + idSize + ed25519.SignatureSize

	// MaxSignature is the most bytes of a signature's text: its comments are at
	// most 1 and 8 KiB.
	MaxSignature = 16 << 10

	untrustedPrefix = "untrusted comment: "
	trustedPrefix   = "trusted comment: "

	keyAlgorithm = "Ed" // of keys, and of signatures over the bytes themselves
	prehashed    = "ED" // of signatures over the bytes' BLAKE2b-512
)

type keyID [idSize]byte

// String is the id as minisign shows it.
func (id keyID) String() string { return fmt.Sprintf("%016X", binary.LittleEndian.Uint64(id[:])) }

// Key is a public key. It is comparable.
type Key struct {
	id     keyID
	public [ed25519.PublicKeySize]byte
}

// ID is the key's id as minisign shows it, 16 hex digits. It is a name and
// proves nothing.
func (k Key) ID() string { return k.id.String() }

// String is what ParseKey reads.
func (k Key) String() string {
	raw := append([]byte(keyAlgorithm), k.id[:]...)
	return base64.StdEncoding.EncodeToString(append(raw, k.public[:]...))
}

// ParseKey reads the second line of a minisign.pub. Its errors do not show the
// text, which may be a secret key by mistake.
func ParseKey(text string) (Key, error) {
	raw, err := decode(text)
	switch {
	case err != nil:
		return Key{}, fmt.Errorf("it is no minisign key: %w; the second line of a minisign.pub is one, RW and 54 more characters", err)
	case len(raw) == secretSize:
		return Key{}, errors.New("it is a secret key, which belongs nowhere but where artifacts are signed; the second line of minisign.pub is the public one")
	case len(raw) != keySize:
		return Key{}, fmt.Errorf("it is no minisign key: %d bytes instead of %d; the second line of a minisign.pub is one", len(raw), keySize)
	case string(raw[:2]) != keyAlgorithm:
		return Key{}, fmt.Errorf("it is a key for an algorithm %q that is not known", raw[:2])
	}
	return Key{keyID(raw[2 : 2+idSize]), [ed25519.PublicKeySize]byte(raw[2+idSize:])}, nil
}

// decode reads base64 in its one right form: Go's own skips line ends and bits
// that have no meaning.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("a line end where base64 is due")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("not well-formed base64")
	}
	return raw, nil
}

// Signature is a parsed .minisig. Nothing in it is trusted before it is
// checked.
type Signature struct {
	id      keyID
	bytes   [ed25519.SignatureSize]byte // over the BLAKE2b-512 of the file
	comment string                      // trusted, once global is right
	global  [ed25519.SignatureSize]byte // over bytes and comment
}

// KeyID names the key it claims to be made with.
func (s Signature) KeyID() string { return s.id.String() }

// ParseSignature reads a .minisig: exactly four lines, and no legacy signature,
// whose file would have to be held in memory whole.
func ParseSignature(text []byte) (Signature, error) {
	var s Signature
	if len(text) > MaxSignature {
		return s, fmt.Errorf("it has more than %d bytes, no signature has", MaxSignature)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 4 {
		return s, fmt.Errorf("it is no signature: %d lines instead of 4", len(lines))
	}
	comment, trusted := strings.CutPrefix(lines[2], trustedPrefix)
	switch {
	case !utf8.Valid(text) || strings.ContainsFunc(strings.Join(lines, ""), control):
		return s, errors.New("it is no signature: it has control characters")
	case !strings.HasPrefix(lines[0], untrustedPrefix):
		return s, fmt.Errorf("it is no signature: it does not begin with %q", untrustedPrefix)
	case !trusted:
		return s, fmt.Errorf("it is no signature: its third line does not begin with %q", trustedPrefix)
	}
	raw, err := decode(lines[1])
	if err == nil && len(raw) != signatureSize {
		err = fmt.Errorf("%d bytes instead of %d", len(raw), signatureSize)
	}
	if err != nil {
		return s, fmt.Errorf("it is no signature: its second line: %w", err)
	}
	switch string(raw[:2]) {
	case prehashed:
	case keyAlgorithm:
		return s, errors.New("it is a legacy signature (Ed); sign without -l, or with -H where minisign knows no -l")
	default:
		return s, fmt.Errorf("it is a signature by an algorithm %q that is not known", raw[:2])
	}
	global, err := decode(lines[3])
	if err == nil && len(global) != ed25519.SignatureSize {
		err = fmt.Errorf("%d bytes instead of %d", len(global), ed25519.SignatureSize)
	}
	if err != nil {
		return s, fmt.Errorf("it is no signature: its fourth line: %w", err)
	}
	s.id, s.bytes = keyID(raw[2:2+idSize]), [ed25519.SignatureSize]byte(raw[2+idSize:])
	s.comment, s.global = comment, [ed25519.SignatureSize]byte(global)
	return s, nil
}

func control(r rune) bool { return r != '\t' && (r < 0x20 || r >= 0x7f && r < 0xa0) }

// By returns the key of keys that made the signature and its comment, and has
// the comment hold every one of tokens. Whether it is of the file at hand is
// Signs'.
func (s Signature) By(keys []Key, tokens []string) (Key, error) {
	var by *Key
	known := false
	message := append(s.bytes[:len(s.bytes):len(s.bytes)], s.comment...)
	for _, k := range keys {
		if k.id != s.id {
			continue
		}
		known = true
		if ed25519.Verify(k.public[:], message, s.global[:]) {
			by = &k
			break
		}
	}
	switch {
	case !known:
		return Key{}, fmt.Errorf("it is made with key %s, which is not trusted", s.id)
	case by == nil:
		return Key{}, fmt.Errorf("its trusted comment, or the signature, is not what key %s signed", s.id)
	}
	for _, t := range tokens {
		if err := holds(s.comment, t); err != nil {
			return Key{}, err
		}
	}
	return *by, nil
}

// holds reports whether a trusted comment has a token, name=value or
// name:value, and no other of its name. Tokens are separated by tabs, as
// minisign itself does, or by spaces; one with a space in it by tabs only.
func holds(comment, token string) error {
	parts := strings.FieldsFunc(comment, func(r rune) bool { return r == '\t' || r == ' ' && !strings.Contains(token, " ") })
	name := token[:strings.IndexAny(token, "=:")+1]
	found := false
	for _, p := range parts {
		switch {
		case p == token:
			found = true
		case strings.HasPrefix(p, name):
			return fmt.Errorf("it is signed for %s, not for %s", p, token)
		}
	}
	if !found {
		return fmt.Errorf("its trusted comment does not say %s", token)
	}
	return nil
}

// Signs reports whether s is the signature of the file with this BLAKE2b-512,
// by k, which By returned.
func (s Signature) Signs(k Key, digest [blake2b.Size]byte) bool {
	return ed25519.Verify(k.public[:], digest[:], s.bytes[:])
}
