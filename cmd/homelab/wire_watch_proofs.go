package main

import (
	"net/url"
	"slices"

	"homelab/pkg/artifact"
	"homelab/pkg/artifact/proof"
	websource "homelab/pkg/artifact/source"
	"homelab/pkg/artifact/source/builderweb"
	"homelab/pkg/fault"
	"homelab/pkg/transport"
)

// proofs makes what asks for more than a hash.
func (w *watchParts) proofs() error {
	p := w.s.Proofs
	if len(p.Keys) == 0 && p.Reproduced == 0 {
		return nil
	}
	if w.out.Config.Kind != artifact.File {
		return fault.Usagef(watchHelp, "--minisign and --reproduced prove files, and the source offers an %s", w.out.Config.Kind)
	}
	scheme := w.scheme(w.s.From)
	// A builder-web takes a build in with its signature; elsewhere one is put
	// after the other.
	o := proof.Options{Keys: p.Keys, Settles: scheme != "builder-web+https" || p.FromMinisig != "", Reproduced: p.Reproduced}
	if len(p.Keys) > 0 {
		signed, ok := w.out.Source.(proof.Signed)
		if !ok {
			return fault.Usagef(watchHelp, "--minisign: this source has no signatures")
		}
		if scheme == "https" {
			if _, err := signed.Tokens(artifact.Candidate{}); err != nil {
				return fault.Usagef(watchHelp, "--minisign: %v", err).Because("a signature is for a file's name")
			}
		}
		if p.FromMinisig != "" {
			u, err := websource.ParseHTTPS("--from-minisig", p.FromMinisig, p.FromMinisig)
			if err != nil {
				return err
			}
			signed = proof.At{Signed: signed, HTTP: w.asks, URL: u}
		}
		o.Signed = signed
	}
	seen := []string{}
	for _, value := range p.Reproducers {
		u, err := builderweb.ParseInstance("--reproducer", value)
		if err != nil {
			return err
		}
		switch {
		case slices.Contains(seen, u.String()):
			return fault.Usagef(watchHelp, "--reproducer %s is given twice", u).Because("one server is one independent build")
		case w.asked != nil && websource.SameOrigin(w.asked, u):
			return fault.Usagef(watchHelp, "--reproducer %s is where the artifact comes from", u).Because("that is no independent build")
		}
		seen = append(seen, u.String())
		b, err := w.instance(u)
		if err != nil {
			return err
		}
		o.Builders = append(o.Builders, b)
	}
	w.out.Prover = proof.New(o)
	return nil
}

// instance is another builder-web. The source's authorities are trusted for it
// too; its pin and its token are not for it.
func (w *watchParts) instance(base *url.URL) (*builderweb.Instance, error) {
	stack, err := w.stackTo(transport.Options{
		Base: base, CAFile: w.s.FromCAFile, Proxy: w.e.Proxy, UserAgent: w.userAgent(), Log: w.log(), Redact: &w.redact,
	})
	if err != nil {
		return nil, err
	}
	return builderweb.NewInstance(base, w.clientOf(base, stack, "")), nil
}
