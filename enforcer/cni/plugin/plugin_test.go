package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/tierwall/tierwall/enforcer/cni"
)

// TestMain is the plugin itself where a runtime runs it.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		skel.PluginMainFuncs(Functions(), Versions, "")
		return
	}
	os.Exit(m.Run())
}

// agent is a node agent that answers what it is told to, and remembers what it was asked.
type agent struct {
	socket string
	mu     sync.Mutex
	asked  []cni.Request
	answer func(cni.Request) cni.Answer
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	return &agent{socket: filepath.Join(t.TempDir(), "s"), answer: func(cni.Request) cni.Answer { return cni.Answer{} }}
}

// start has the agent answer for the rest of the test.
func (a *agent) start(t *testing.T) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "unix", a.socket)
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var r cni.Request
			_ = json.NewDecoder(conn).Decode(&r)
			a.mu.Lock()
			a.asked = append(a.asked, r)
			answer := a.answer(r)
			a.mu.Unlock()
			_ = json.NewEncoder(conn).Encode(answer)
			conn.Close()
		}
	}()
}

func (a *agent) requests() []cni.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]cni.Request(nil), a.asked...)
}

// made is what a plugin before made, with one interface in the pod and one on the node.
const made = `{"cniVersion":"%s","interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"/proc/1/ns/net"}],
 "ips":[{"version":"4","interface":1,"address":"10.1.0.5/24"},{"version":"6","interface":1,"address":"fd00:1::5/64"},
        {"version":"4","interface":0,"address":"10.1.0.1/24"},{"version":"4","interface":1,"address":"10.1.0.6/24"}]}`

// request is what a runtime asks of the plugin.
type request struct {
	command, version, namespace, prev string
	conf                              string // more of the configuration
	noPod                             bool
}

// do runs the plugin, and gives its result or its error.
func (a *agent) do(t *testing.T, r request) (map[string]any, *types.Error) {
	t.Helper()
	if r.version == "" {
		r.version = "1.1.0"
	}
	if r.prev == "" {
		r.prev = fmt.Sprintf(made, r.version)
	}
	if r.namespace == "" {
		r.namespace = "prod"
	}
	conf := fmt.Sprintf(`{"cniVersion":%q,"name":"lab","type":"tierwall-cni","socket":%q,"timeoutSeconds":1,
 "exemptNamespaces":["kube-system"],"prevResult":%s%s}`, r.version, a.socket, r.prev, r.conf)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = []string{"CNI_COMMAND=" + r.command, "CNI_CONTAINERID=c1", "CNI_NETNS=/proc/1/ns/none", "CNI_IFNAME=eth0", "CNI_PATH=/",
		"CNI_NETNS_OVERRIDE=1"}
	if !r.noPod {
		cmd.Env = append(cmd.Env, "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE="+r.namespace+";K8S_POD_NAME=web;K8S_POD_UID=u1;K8S_POD_INFRA_CONTAINER_ID=c1")
	}
	cmd.Stdin = strings.NewReader(conf)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		e := &types.Error{}
		if json.Unmarshal(out.Bytes(), e) != nil {
			t.Fatalf("%s: %v: %s%s", r.command, err, out.String(), errOut.String())
		}
		return nil, e
	}
	result := map[string]any{}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &result); err != nil {
			t.Fatalf("%s: %v in %s", r.command, err, out.String())
		}
	}
	return result, nil
}

func TestAddHandsOnWhatThePluginsBeforeMadeOnceTheRulesAreInForce(t *testing.T) {
	for _, version := range Versions.SupportedVersions() {
		t.Run(version, func(t *testing.T) {
			a := newAgent(t)
			a.start(t)
			result, err := a.do(t, request{command: "ADD", version: version})
			if err != nil {
				t.Fatal(err)
			}
			if ips, _ := result["ips"].([]any); len(ips) != 4 {
				t.Errorf("result %v, want that of the plugins before", result)
			}
			asked := a.requests()
			if len(asked) != 1 || asked[0].Verb != cni.Add || asked[0].Namespace != "prod" || asked[0].Name != "web" ||
				asked[0].UID != "u1" || asked[0].Container != "c1" || fmt.Sprint(asked[0].Addrs) != "[10.1.0.5 fd00:1::5]" {
				t.Errorf("asked %+v", asked)
			}
		})
	}
}

func TestPodWhoseRulesAreNotInForceDoesNotStart(t *testing.T) {
	a := newAgent(t)
	a.answer = func(cni.Request) cni.Answer { return cni.Answer{Missing: "the kernel says no"} }
	a.start(t)
	_, err := a.do(t, request{command: "ADD"})
	if err == nil || err.Code != types.ErrTryAgainLater || !strings.Contains(err.Error(), "the kernel says no") || !strings.Contains(err.Msg, "pod prod/web") {
		t.Errorf("error %v", err)
	}
}

func TestPodWaitsForAnAgentThatIsAway(t *testing.T) {
	a := newAgent(t)
	start := time.Now()
	_, err := a.do(t, request{command: "ADD"})
	if err == nil || !strings.Contains(err.Msg, "kubectl get pods") || time.Since(start) < time.Second {
		t.Errorf("error %v after %v, want one that says what to do, after a second", err, time.Since(start))
	}
	time.AfterFunc(300*time.Millisecond, func() { a.start(t) })
	if _, err := a.do(t, request{command: "ADD"}); err != nil {
		t.Errorf("the agent came back in time, and the pod did not start: %v", err)
	}
}

// The agent may need what runs there: the cluster must not lock itself out.
func TestExemptPodsStartWithoutAnAgent(t *testing.T) {
	for what, prepare := range map[string]func(*agent){
		"away": func(*agent) {},
		"failed": func(a *agent) {
			a.answer = func(cni.Request) cni.Answer { return cni.Answer{Missing: "x"} }
			a.start(t)
		},
	} {
		a := newAgent(t)
		prepare(a)
		if result, err := a.do(t, request{command: "ADD", namespace: "kube-system"}); err != nil || result["ips"] == nil {
			t.Errorf("%s: %v, %v", what, result, err)
		}
	}
}

func TestWhatIsNoPodIsLetPass(t *testing.T) {
	a := newAgent(t)
	if result, err := a.do(t, request{command: "ADD", noPod: true}); err != nil || result["ips"] == nil {
		t.Errorf("%v, %v", result, err)
	}
}

func TestAddThatCannotBeUnderstoodFails(t *testing.T) {
	a := newAgent(t)
	a.start(t)
	for what, r := range map[string]request{
		"no plugin before":    {prev: "null"},
		"no address":          {prev: `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[]}`},
		"the node's address":  {prev: `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0"}],"ips":[{"interface":0,"address":"10.0.0.1/24"}]}`},
		"another interface's": {prev: `{"cniVersion":"1.1.0","interfaces":[{"name":"eth1","sandbox":"/x"}],"ips":[{"interface":0,"address":"10.0.0.1/24"}]}`},
		"out of range":        {prev: `{"cniVersion":"1.1.0","interfaces":[],"ips":[{"interface":7,"address":"10.0.0.1/24"}]}`},
		"negative timeout":    {conf: `,"timeoutSeconds":-1`},
		"half a pod":          {namespace: ";K8S_POD_NAMESPACE="},
	} {
		r.command = "ADD"
		if _, err := a.do(t, r); err == nil {
			t.Errorf("%s: the pod starts", what)
		}
	}
	if asked := a.requests(); len(asked) != 0 {
		t.Errorf("the agent was asked %+v", asked)
	}
}

func TestCheckAsksTheAgent(t *testing.T) {
	a := newAgent(t)
	a.start(t)
	if _, err := a.do(t, request{command: "CHECK"}); err != nil || a.requests()[0].Verb != cni.Check {
		t.Errorf("error %v, asked %+v", err, a.requests())
	}
	a.mu.Lock()
	a.answer = func(cni.Request) cni.Answer { return cni.Answer{Missing: "gone"} }
	a.mu.Unlock()
	if _, err := a.do(t, request{command: "CHECK"}); err == nil {
		t.Error("a pod whose rules are gone passes")
	}
}

func TestPodsEndWhetherThereIsAnAgentOrNot(t *testing.T) {
	away := newAgent(t)
	for _, r := range []request{{command: "DEL"}, {command: "DEL", conf: `,"timeoutSeconds":"x"`}, {command: "GC"}} {
		if _, err := away.do(t, r); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
	a := newAgent(t)
	a.start(t)
	for _, r := range []request{{command: "DEL"}, {command: "GC", conf: `,"cni.dev/valid-attachments":[{"containerID":"c7","ifname":"eth0"}]`}} {
		if _, err := a.do(t, r); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
	asked := a.requests()
	if len(asked) != 2 || asked[0].Verb != cni.Del || asked[0].Container != "c1" || asked[1].Verb != cni.GC || fmt.Sprint(asked[1].Containers) != "[c7]" {
		t.Errorf("asked %+v", asked)
	}
}

func TestStatusIsAboutTheConfigurationAlone(t *testing.T) {
	a := newAgent(t)
	if _, err := a.do(t, request{command: "STATUS"}); err != nil {
		t.Errorf("with the agent away: %v", err)
	}
	if _, err := a.do(t, request{command: "STATUS", conf: `,"timeoutSeconds":-1`}); err == nil {
		t.Error("a wrong configuration passes")
	}
	if result, err := a.do(t, request{command: "VERSION"}); err != nil || !strings.Contains(fmt.Sprint(result["supportedVersions"]), "1.1.0") {
		t.Errorf("versions %v, %v", result, err)
	}
}
