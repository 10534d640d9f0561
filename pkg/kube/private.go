package kube

import (
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"homelab/pkg/fault"
)

// Private returns the text of a kubeconfig that holds the one context that
// Connect would use, with what it needs from other files, and nothing else. The
// error is a *fault.Error of kind Usage.
func Private(o Options) ([]byte, error) {
	quiet()
	if _, _, _, err := load(o); err != nil { //nolint:dogsled // only whether it is usable
		return nil, err
	}
	var raw *clientcmdapi.Config
	var err error
	if o.Content != nil {
		raw, err = clientcmd.Load(o.Content)
	} else {
		raw, err = (&clientcmd.ClientConfigLoadingRules{Precedence: o.Kubeconfig}).Load()
	}
	if err == nil {
		if o.Context != "" {
			raw.CurrentContext = o.Context
		}
		if c := raw.Contexts[raw.CurrentContext]; c != nil && o.Namespace != "" {
			c.Namespace = o.Namespace
		}
		err = clientcmdapi.MinifyConfig(raw)
	}
	if err == nil {
		err = clientcmdapi.FlattenConfig(raw)
	}
	var out []byte
	if err == nil {
		out, err = clientcmd.Write(*raw)
	}
	if err != nil {
		return nil, fault.Usagef("", "the kubeconfig of one cluster cannot be made").Because(oneLine(err.Error())).From(err)
	}
	return out, nil
}
