package plugin

import "github.com/containernetworking/cni/pkg/types"

// pod identifies the pod of the network; the name is empty if it is no pod's.
type pod struct{ namespace, name, uid string }

// podArguments are the CNI_ARGS that container runtimes give for pods; the library finds them by the names of the fields.
type podArguments struct {
	types.CommonArgs
	K8S_POD_NAMESPACE types.UnmarshallableString
	K8S_POD_NAME      types.UnmarshallableString
	K8S_POD_UID       types.UnmarshallableString
}

func podOf(args string) (pod, error) {
	a := podArguments{CommonArgs: types.CommonArgs{IgnoreUnknown: true}}
	if err := types.LoadArgs(args, &a); err != nil {
		return pod{}, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS cannot be read", err.Error())
	}
	if (a.K8S_POD_NAME == "") != (a.K8S_POD_NAMESPACE == "") {
		return pod{}, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS name a pod by half: "+args, "")
	}
	return pod{string(a.K8S_POD_NAMESPACE), string(a.K8S_POD_NAME), string(a.K8S_POD_UID)}, nil
}
