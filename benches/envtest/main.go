// How long controller-runtime's envtest takes from nothing to the second write, in seconds on stdout: what
// benches/lab_start.rs measures our own lab beside. The argument is the folder with etcd and kube-apiserver.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

func main() {
	env := &envtest.Environment{BinaryAssetsDirectory: os.Args[1]}
	took, err := start(env)
	if stopped := env.Stop(); err == nil {
		err = stopped
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(took.Seconds())
}

func start(env *envtest.Environment) (time.Duration, error) {
	began := time.Now()
	config, err := env.Start()
	if err != nil {
		return 0, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return 0, err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "rollproof"}}
	if _, err := client.CoreV1().Namespaces().Create(context.Background(), namespace, metav1.CreateOptions{}); err != nil {
		return 0, err
	}
	probed := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "probed"}}
	_, err = client.CoreV1().ConfigMaps("rollproof").Create(context.Background(), probed, metav1.CreateOptions{})
	return time.Since(began), err
}
