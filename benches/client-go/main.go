// The load of the OpenShift report with client-go: what benches/load.rs measures our own load beside.
//
// client-go KUBECONFIG NAMESPACE WORKERS SECONDS READ_ONLY runs that many workers, each on a connection of its own, as fast as they
// go, and prints how many requests succeeded and how many processor seconds it took, to start with excluded.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

var requests atomic.Int64

func main() {
	kubeconfig, namespace := os.Args[1], os.Args[2]
	workers, seconds := number(os.Args[3]), number(os.Args[4])
	readOnly := os.Args[5] == "true"

	clients := make([]*kubernetes.Clientset, workers)
	for worker := range clients {
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		check(err)
		// No rate limit of the client's own.
		config.QPS = -1
		// client-go shares a transport among all clients that are configured alike; a dialler of its own makes one differ.
		config.Dial = (&net.Dialer{}).DialContext
		clients[worker], err = kubernetes.NewForConfig(config)
		check(err)
		// The connection is there before the clock starts, as in ours.
		_, err = clients[worker].CoreV1().Namespaces().Get(context.Background(), namespace, metav1.GetOptions{})
		check(err)
	}

	before, end := used(), time.Now().Add(time.Duration(seconds)*time.Second)
	var all sync.WaitGroup
	for worker, client := range clients {
		all.Go(func() {
			for cycle := 0; time.Now().Before(end); cycle++ {
				if readOnly {
					done(client.CoreV1().Namespaces().Get(context.Background(), namespace, metav1.GetOptions{}))
				} else {
					run(client, namespace, fmt.Sprintf("client-go-%d-%d", worker, cycle))
				}
			}
		})
	}
	all.Wait()
	fmt.Println(requests.Load(), used()-before)
}

// run creates one of each, gets each, deletes each.
func run(client *kubernetes.Clientset, namespace, name string) {
	ctx, core := context.Background(), client.CoreV1()
	meta := metav1.ObjectMeta{Name: name}
	done(core.ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{}))
	done(core.Secrets(namespace).Create(ctx, &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{}))
	done(core.ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta}, metav1.CreateOptions{}))
	done(core.ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{}))
	done(core.Secrets(namespace).Get(ctx, name, metav1.GetOptions{}))
	done(core.ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{}))
	done(0, core.ServiceAccounts(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	done(0, core.Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	done(0, core.ConfigMaps(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
}

func done[T any](_ T, err error) {
	check(err)
	requests.Add(1)
}

// used says how many processor seconds this process has taken.
func used() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func number(text string) int {
	number, err := strconv.Atoi(text)
	check(err)
	return number
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
