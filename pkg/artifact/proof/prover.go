package proof

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/sync/errgroup"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/source"
	"homelab/pkg/poll"
)

// A file and its signature are not put in place together, so what does not
// hold is read twice more.
const (
	againTimes = 2
	againWait  = 30 * time.Second
)

// Signed is where the signatures of a source's files are.
type Signed interface {
	// Signature returns the text of c's signature, at most MaxSignature+1 bytes.
	// The error is *artifact.Failure or ctx's cause.
	Signature(ctx context.Context, c artifact.Candidate) ([]byte, error)
	// Tokens are what the trusted comment of c's signature must say, each
	// name=value or name:value. The error is for a candidate that cannot be told
	// apart from others.
	Tokens(c artifact.Candidate) ([]string, error)
}

// Builder is somebody else who builds the same artifacts.
type Builder interface {
	// Built returns the name of a build that made the bytes with this id; "" there
	// is none.
	Built(ctx context.Context, id artifact.ID) (build string, err error)
	String() string
}

// Options of New.
type Options struct {
	Keys   []Key  // none: no signature is asked for
	Signed Signed // with Keys
	// Settles: file and signature may be replaced one after the other. A
	// signature that is missing or does not hold is read again before it is
	// believed.
	Settles bool

	Reproduced int // how many of Builders must have built it; 0 none
	Builders   []Builder
}

// Prover asks for the proofs that are configured.
type Prover struct{ o Options }

// New returns a prover; nothing is asked.
func New(o Options) *Prover { return &Prover{o} }

// Prove returns the proofs of the file c, whose bytes are at path. Without a
// path (a check that fetches nothing) the bytes themselves are left out. The
// error is ctx's cause or *artifact.Failure: Refused for a signature that is
// not there or does not hold, Hold with Unreproduced for too few builds.
func (p *Prover) Prove(ctx context.Context, c artifact.Candidate, path string) (artifact.Proofs, error) {
	out := artifact.Proofs{}
	if len(p.o.Keys) > 0 {
		k, err := p.signed(ctx, c, path)
		if err != nil {
			return out, err
		}
		id := k.ID()
		out.Signature = &id
	}
	if p.o.Reproduced > 0 {
		n, err := p.rebuilt(ctx, c)
		if err != nil {
			return out, err
		}
		out.Reproduced = &n
	}
	out.Hash = true
	return out, nil
}

// signed checks c's signature, again where that may help.
func (p *Prover) signed(ctx context.Context, c artifact.Candidate, path string) (Key, error) {
	tokens, err := p.o.Signed.Tokens(c)
	if err != nil {
		return Key{}, refused(c, err)
	}
	var digest [blake2b.Size]byte
	if path != "" {
		if digest, err = hash(ctx, c, path); err != nil {
			return Key{}, err
		}
	}
	for n := 0; ; n++ {
		k, err := p.once(ctx, c, tokens, path != "", digest)
		if f := artifact.FailureOf(err, artifact.Transient); f == nil || f.Class != artifact.Refused || !p.o.Settles || n == againTimes {
			return k, err
		}
		if err := poll.Sleep(ctx, againWait); err != nil {
			return Key{}, err
		}
	}
}

// once reads the signature and checks it.
func (p *Prover) once(ctx context.Context, c artifact.Candidate, tokens []string, whole bool, digest [blake2b.Size]byte) (Key, error) {
	text, err := p.o.Signed.Signature(ctx, c)
	if source.IsAbsent(err) {
		return Key{}, refused(c, fmt.Errorf("there is none: %w", err))
	}
	if err != nil {
		return Key{}, err
	}
	s, err := ParseSignature(text)
	if err != nil {
		return Key{}, refused(c, err)
	}
	k, err := s.By(p.o.Keys, tokens)
	if err != nil {
		return Key{}, refused(c, err)
	}
	if whole && !s.Signs(k, digest) {
		return Key{}, refused(c, fmt.Errorf("key %s signed another file", k.ID()))
	}
	return k, nil
}

func refused(c artifact.Candidate, err error) *artifact.Failure {
	return source.Failf(artifact.Refused, err, "the signature of %s: %v", c.ID.Short(), err)
}

// hash is the BLAKE2b-512 of the file at path, which must be c's: both come of
// one reading.
func hash(ctx context.Context, c artifact.Candidate, path string) (digest [blake2b.Size]byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0) //nolint:gosec // the store's
	if err != nil {
		return digest, source.Failf(artifact.Transient, err, "%s cannot be read: %v", c.ID.Short(), err)
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	blake, err := blake2b.New512(nil)
	if err != nil {
		return digest, err // a key of the wrong length, and there is none
	}
	both, buf := io.MultiWriter(sum, blake), make([]byte, 256<<10)
	for {
		if ctx.Err() != nil {
			return digest, context.Cause(ctx)
		}
		n, err := f.Read(buf)
		_, _ = both.Write(buf[:n]) // hashes take everything
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return digest, source.Failf(artifact.Transient, err, "%s cannot be read: %v", c.ID.Short(), err)
		}
	}
	if got := artifact.NewID([32]byte(sum.Sum(nil))); got != c.ID {
		return digest, source.Failf(artifact.Refused, nil, "the stored %s has become %s", c.ID.Short(), got.Short())
	}
	return [blake2b.Size]byte(blake.Sum(nil)), nil
}

// rebuilt counts the independent builds of c's bytes. Two servers that name the
// same build are one and its mirror, as is one that names the candidate's own.
func (p *Prover) rebuilt(ctx context.Context, c artifact.Candidate) (int, error) {
	builds, errs := make([]string, len(p.o.Builders)), make([]error, len(p.o.Builders))
	g, inner := errgroup.WithContext(ctx)
	for i, b := range p.o.Builders {
		g.Go(func() error {
			builds[i], errs[i] = b.Built(inner, c.ID)
			return nil
		})
	}
	_ = g.Wait() // none of them ends the others
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	have := map[string]bool{}
	var without []string
	for i, b := range p.o.Builders {
		switch {
		case errs[i] != nil:
			without = append(without, fmt.Sprintf("%s cannot tell: %v", b, errs[i]))
		case builds[i] == "":
			without = append(without, fmt.Sprintf("%s has no such build", b))
		case builds[i] == c.Meta.UUID || have[builds[i]]:
			without = append(without, fmt.Sprintf("%s only repeats build %s", b, builds[i]))
		default:
			have[builds[i]] = true
		}
	}
	if n := len(have); n >= p.o.Reproduced {
		return n, nil
	}
	f := source.Failf(artifact.Hold, errors.Join(errs...), "%d of %d independent builds made %s: %s",
		len(have), p.o.Reproduced, c.ID.Short(), strings.Join(without, "; "))
	f.Why = artifact.Unreproduced
	return 0, f
}
