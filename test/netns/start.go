package netns

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Start starts a program that ends with this process at the latest. The kernel ties that to the thread
// that started it (prctl(2), PR_SET_PDEATHSIG), and threads end with the calls of Do: this one does not.
func Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	done := make(chan error, 1)
	starter() <- func() { done <- cmd.Start() }
	return <-done
}

// starter is where a thread that lasts takes what to call.
var starter = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for call := range calls {
			call()
		}
	}()
	return calls
})
