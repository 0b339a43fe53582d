package main

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	discoveryv1apply "k8s.io/client-go/applyconfigurations/discovery/v1"
	"k8s.io/client-go/kubernetes"

	"edgefleet.local/k3s_double/control"
)

const manager = "k3s"

// publishAPIAddress makes the Service `kubernetes` lead to the port that everybody can reach.
func publishAPIAddress(ctx context.Context, client kubernetes.Interface, o *control.Options) error {
	force := metav1.ApplyOptions{FieldManager: manager, Force: true}
	port := int32(o.AdvertisePort)
	endpoints := corev1apply.Endpoints("kubernetes", "default").
		WithLabels(map[string]string{discoveryv1.LabelSkipMirror: "true"}).
		WithSubsets(corev1apply.EndpointSubset().
			WithAddresses(corev1apply.EndpointAddress().WithIP(o.AdvertiseAddress)).
			WithPorts(corev1apply.EndpointPort().WithName("https").WithPort(port).WithProtocol(corev1.ProtocolTCP)))
	if _, err := client.CoreV1().Endpoints("default").Apply(ctx, endpoints, force); err != nil {
		return fmt.Errorf("endpoints of the API: %w", err)
	}
	family := discoveryv1.AddressTypeIPv4
	if address, err := netip.ParseAddr(o.AdvertiseAddress); err == nil && address.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	slice := discoveryv1apply.EndpointSlice("kubernetes", "default").
		WithLabels(map[string]string{discoveryv1.LabelServiceName: "kubernetes"}).
		WithAddressType(family).
		WithEndpoints(discoveryv1apply.Endpoint().WithAddresses(o.AdvertiseAddress).
			WithConditions(discoveryv1apply.EndpointConditions().WithReady(true))).
		WithPorts(discoveryv1apply.EndpointPort().WithName("https").WithPort(port).WithProtocol(corev1.ProtocolTCP))
	_, err := client.DiscoveryV1().EndpointSlices("default").Apply(ctx, slice, force)
	if err != nil {
		return fmt.Errorf("endpoint slice of the API: %w", err)
	}
	return nil
}
