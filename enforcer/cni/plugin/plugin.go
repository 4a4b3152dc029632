// Package plugin is a chained CNI plugin (CNI specification 1.1) that delays a pod's start until its rules are in force on
// the node.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/tierwall/tierwall/enforcer/cni"
)

const (
	// exemptTimeout is how long a pod of an exempt namespace waits for an agent that answers. It does not wait for one that
	// is away: the agent may itself depend on such pods.
	exemptTimeout = 2 * time.Second
	// tellTimeout bounds a notification of the agent.
	tellTimeout = 2 * time.Second
)

// Versions are the versions of the specification with chains.
var Versions = version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Functions returns the plugin's commands.
func Functions() skel.CNIFuncs {
	return skel.CNIFuncs{Add: cmdAdd, Check: cmdCheck, Del: cmdDel, GC: cmdGC, Status: cmdStatus}
}

// cmdAdd waits for the pod's rules, and returns the result of the plugins before.
func cmdAdd(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	result, err := conf.previousResult()
	if err != nil {
		return err
	}
	if err := waitForRules(cni.Add, args, conf, result); err != nil {
		return err
	}
	return types.PrintResult(conf.PrevResult, conf.CNIVersion)
}

// cmdCheck fails unless the pod's rules are in force.
func cmdCheck(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	result, err := conf.previousResult()
	if err != nil {
		return err
	}
	return waitForRules(cni.Check, args, conf, result)
}

// waitForRules calls the agent about the pod. An attachment that is no pod has no rules to wait for.
func waitForRules(verb cni.Verb, args *skel.CmdArgs, conf *config, result *types100.Result) error {
	pod, err := podOf(args.Args)
	if err != nil {
		return err
	}
	if pod.name == "" {
		return nil
	}
	exempt := slices.Contains(conf.ExemptNamespaces, pod.namespace)
	addrs, err := podAddresses(result, args.IfName)
	if err != nil && !exempt {
		return err
	}
	r := cni.Request{Verb: verb, Namespace: pod.namespace, Name: pod.name, UID: pod.uid,
		Container: args.ContainerID, Addrs: addrs, Timeout: conf.waitTimeout()}
	if exempt {
		r.Timeout = min(r.Timeout, exemptTimeout)
		_ = cni.Call(context.Background(), conf.Socket, r) // the pod starts whatever the answer is
		return nil
	}
	if err := cni.CallUntilTimeout(context.Background(), conf.Socket, r); err != nil {
		return rulesNotReadyError(pod, conf, err)
	}
	return nil
}

// rulesNotReadyError returns why the pod does not start, and what to do, as its events show it.
func rulesNotReadyError(p pod, conf *config, err error) error {
	what := "read the log of the node agent of tierwall on this node"
	if errors.Is(err, cni.ErrAway) {
		what = "see that the node agent of tierwall runs on this node (kubectl get pods -A -o wide -l " +
			"app.kubernetes.io/name=tierwall,app.kubernetes.io/component=enforcer)"
	}
	return types.NewError(types.ErrTryAgainLater,
		fmt.Sprintf("the network policies of pod %s/%s were not in force within %v, so it is not started; it will be tried again; %s",
			p.namespace, p.name, conf.waitTimeout(), what), err.Error())
}

// cmdDel withdraws what cmdAdd reported. A pod ends whether there is an agent or not.
func cmdDel(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return nil //nolint:nilerr // nothing of ours can be left
	}
	if pod, err := podOf(args.Args); err == nil && pod.name != "" {
		r := cni.Request{Verb: cni.Del, Namespace: pod.namespace, Name: pod.name, Container: args.ContainerID, Timeout: tellTimeout}
		_ = cni.Call(context.Background(), conf.Socket, r)
	}
	return nil
}

// cmdGC reports the containers that exist, so that the agent forgets others.
func cmdGC(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	r := cni.Request{Verb: cni.GC, Timeout: tellTimeout}
	for _, a := range conf.ValidAttachments {
		r.Containers = append(r.Containers, a.ContainerID)
	}
	_ = cni.Call(context.Background(), conf.Socket, r)
	return nil
}

// cmdStatus checks the configuration only. While the agent is away the network is still ready for exempt pods; an error
// would keep these from the node, too.
func cmdStatus(args *skel.CmdArgs) error {
	_, err := parseConfig(args.StdinData)
	return err
}
