// Package plugin is a chained CNI plugin (CNI specification 1.1) that lets a pod have its network
// when its rules are in force on the node, and not before.
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
	// exemptTimeout is how long a pod of an exempt namespace waits for an agent that answers. For
	// one that is away it does not wait at all: the agent may itself need what such pods serve.
	exemptTimeout = 2 * time.Second
	// tellTimeout is how long it may take to tell the agent something.
	tellTimeout = 2 * time.Second
)

// Versions are those of the specification that have chains.
var Versions = version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Functions are what a runtime can ask of the plugin.
func Functions() skel.CNIFuncs {
	return skel.CNIFuncs{Add: add, Check: check, Del: del, GC: gc, Status: status}
}

// add waits for the pod's rules and hands on what the plugins before made.
func add(args *skel.CmdArgs) error {
	conf, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	result, err := conf.result()
	if err != nil {
		return err
	}
	if err := wait(cni.Add, args, conf, result); err != nil {
		return err
	}
	return types.PrintResult(conf.PrevResult, conf.CNIVersion)
}

// check reports whether the pod's rules are in force.
func check(args *skel.CmdArgs) error {
	conf, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	result, err := conf.result()
	if err != nil {
		return err
	}
	return wait(cni.Check, args, conf, result)
}

// wait asks the agent about the pod. What is no pod is none of its endpoints: it has no rules to wait for.
func wait(verb cni.Verb, args *skel.CmdArgs, conf *config, result *types100.Result) error {
	pod, err := podOf(args.Args)
	if err != nil {
		return err
	}
	if pod.name == "" {
		return nil
	}
	exempt := slices.Contains(conf.ExemptNamespaces, pod.namespace)
	addrs, err := addresses(result, args.IfName)
	if err != nil && !exempt {
		return err
	}
	r := cni.Request{Verb: verb, Namespace: pod.namespace, Name: pod.name, UID: pod.uid,
		Container: args.ContainerID, Addrs: addrs, Timeout: conf.timeout()}
	if exempt {
		r.Timeout = min(r.Timeout, exemptTimeout)
		_ = cni.Call(context.Background(), conf.Socket, r) // whatever it says, the pod goes on
		return nil
	}
	if err := cni.Insist(context.Background(), conf.Socket, r); err != nil {
		return closed(pod, conf, err)
	}
	return nil
}

// closed is why the pod does not start, and what to do, as its events will show it.
func closed(p pod, conf *config, err error) error {
	what := "look what the node agent of tierwall on this node logs"
	if errors.Is(err, cni.ErrAway) {
		what = "see that the node agent of tierwall runs on this node (kubectl get pods -A -o wide -l " +
			"app.kubernetes.io/name=tierwall,app.kubernetes.io/component=enforcer)"
	}
	return types.NewError(types.ErrTryAgainLater,
		fmt.Sprintf("the network policies of pod %s/%s were not in force within %v, so it is not started; it will be tried again; %s",
			p.namespace, p.name, conf.timeout(), what), err.Error())
}

// del takes back what add said. A pod ends whether there is an agent or not.
func del(args *skel.CmdArgs) error {
	conf, err := parse(args.StdinData)
	if err != nil {
		return nil //nolint:nilerr // there is nothing of ours that could be left
	}
	if pod, err := podOf(args.Args); err == nil && pod.name != "" {
		r := cni.Request{Verb: cni.Del, Namespace: pod.namespace, Name: pod.name, Container: args.ContainerID, Timeout: tellTimeout}
		_ = cni.Call(context.Background(), conf.Socket, r)
	}
	return nil
}

// gc has the agent forget what it was told of containers that are gone.
func gc(args *skel.CmdArgs) error {
	conf, err := parse(args.StdinData)
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

// status is about the configuration alone. With an agent that is away the network is still ready for
// exempt pods: to say otherwise would keep these from the node, too.
func status(args *skel.CmdArgs) error {
	_, err := parse(args.StdinData)
	return err
}
