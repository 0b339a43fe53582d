package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"edgefleet.local/k3s_double/control"
	"edgefleet.local/k3s_double/manifests"
	"edgefleet.local/k3s_double/pki"
)

//go:embed manifests addon.yaml
var packaged embed.FS

const (
	scanInterval = 15 * time.Second
	systemSpace  = "kube-system"
	deployer     = "deploy"
	// appliedNote is where an Addon keeps what it has applied, so that it can remove what its file no longer has.
	appliedNote = "k3s.cattle.io/lab-double-applied"
)

var addonKind = schema.GroupVersionKind{Group: "k3s.cattle.io", Version: "v1", Kind: "Addon"}

// What real K3s brings and the double doesn't.
var notShipped = []string{"metrics-server", "servicelb", "traefik"}

// manifestDeployer applies what lies in server/manifests.
type manifestDeployer struct {
	folder  string
	options *control.Options
	client  dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	seen    map[string]fileState
	retry   bool // a file failed: all are applied again
}

type fileState struct {
	modified time.Time
	checksum string
}

// object names one applied object.
type object struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

func newDeployer(config *rest.Config, options *control.Options) (*manifestDeployer, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	discover, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &manifestDeployer{
		folder: options.Path("server/manifests"), options: options, client: client,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discover)),
		seen:   map[string]fileState{},
	}, nil
}

// stage writes the packaged manifests anew: edits in them do not last. Disabled ones are not written.
func (d *manifestDeployer) stage() error {
	replace := strings.NewReplacer(
		"@CLUSTER_DNS@", d.options.ClusterDNS[0], "@CLUSTER_DOMAIN@", d.options.ClusterDomain,
		"@LOCAL_STORAGE_PATH@", d.options.LocalStoragePath,
	)
	entries, err := packaged.ReadDir("manifests")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if d.options.Disable[manifests.Addon(entry.Name())] {
			continue
		}
		content, err := packaged.ReadFile("manifests/" + entry.Name())
		if err != nil {
			return err
		}
		target := filepath.Join(d.folder, entry.Name())
		text := []byte(replace.Replace(string(content)))
		if old, err := os.ReadFile(target); err == nil && bytes.Equal(old, text) {
			continue
		}
		if err := pki.WriteFile(target, text, 0o600); err != nil {
			return err
		}
	}
	for _, name := range notShipped {
		if !d.options.Disable[name] {
			log.Printf("lab double: %s is not shipped", name)
		}
	}
	return nil
}

// first brings in the kind Addon and everything that lies there. Files that fail are tried again by run.
func (d *manifestDeployer) first(ctx context.Context) error {
	if err := waitFor(ctx, 200*time.Millisecond, func() error { return d.applyAddonKind(ctx) }); err != nil {
		return fmt.Errorf("custom resource Addon: %w", err)
	}
	d.scanAndTell(ctx)
	return nil
}

// run scans every 15 s.
func (d *manifestDeployer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(scanInterval):
			d.scanAndTell(ctx)
		}
	}
}

func (d *manifestDeployer) scanAndTell(ctx context.Context) {
	if err := d.scan(ctx); err != nil && ctx.Err() == nil {
		log.Printf("Failed to process manifests, trying again: %v", err)
	}
}

func (d *manifestDeployer) applyAddonKind(ctx context.Context) error {
	content, err := packaged.ReadFile("addon.yaml")
	if err != nil {
		return err
	}
	objects, err := decode(content)
	if err != nil {
		return err
	}
	for _, one := range objects {
		if err := d.apply(ctx, one); err != nil {
			return err
		}
	}
	d.mapper.Reset()
	mapping, err := d.mapper.RESTMapping(addonKind.GroupKind(), addonKind.Version)
	if err != nil {
		return err
	}
	_, err = d.client.Resource(mapping.Resource).Namespace(systemSpace).List(ctx, metav1.ListOptions{})
	return err
}

func (d *manifestDeployer) scan(ctx context.Context) error {
	files, err := manifests.Files(d.folder)
	if err != nil {
		return err
	}
	all := d.retry
	d.retry = false
	var failures []error
	for _, file := range files {
		if err := d.process(ctx, file, all); err != nil {
			d.retry = true
			failures = append(failures, fmt.Errorf("%s: %w", file, err))
		}
	}
	return errors.Join(failures...)
}

func (d *manifestDeployer) process(ctx context.Context, path string, again bool) error {
	name := manifests.Addon(path)
	if manifests.Disabled(d.folder, path, d.options.Disable) {
		return d.remove(ctx, path, name)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	state, known := d.seen[path]
	if known && !again && info.ModTime().Equal(state.modified) {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	checksum := hex.EncodeToString(sum[:])
	if known && !again && checksum == state.checksum {
		d.seen[path] = fileState{info.ModTime(), checksum}
		return nil
	}
	if err := d.applyFile(ctx, path, name, content, checksum); err != nil {
		return err
	}
	d.seen[path] = fileState{info.ModTime(), checksum}
	return nil
}

func (d *manifestDeployer) applyFile(ctx context.Context, path, name string, content []byte, checksum string) error {
	objects, err := decode(content)
	if err != nil {
		return err
	}
	before, err := d.appliedBefore(ctx, name)
	if err != nil {
		return err
	}
	var applied []object
	var failures []error
	for _, one := range objects {
		labels := one.GetLabels()
		set(&labels, "objectset.rio.cattle.io/owner-name", name)
		one.SetLabels(labels)
		if err := d.apply(ctx, one); err != nil {
			failures = append(failures, err)
		}
		applied = append(applied, nameOf(one))
	}
	if len(failures) > 0 {
		// What the file had before stays on record, so that it can still be removed.
		applied = union(before, applied)
	}
	if err := d.record(ctx, name, path, checksum, applied); err != nil {
		failures = append(failures, err)
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	log.Printf("Applied manifest %s: %d objects", path, len(objects))
	return d.deleteAll(ctx, without(before, applied))
}

// remove deletes the objects of a disabled file, then, in a later scan, the file.
func (d *manifestDeployer) remove(ctx context.Context, path, name string) error {
	before, err := d.appliedBefore(ctx, name)
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return os.Remove(path)
	}
	if err := d.deleteAll(ctx, before); err != nil {
		return err
	}
	log.Printf("Deleted the objects of disabled manifest %s", path)
	return d.deleteAll(ctx, []object{{
		Group: addonKind.Group, Version: addonKind.Version, Kind: addonKind.Kind, Namespace: systemSpace, Name: name,
	}})
}

func (d *manifestDeployer) apply(ctx context.Context, one *unstructured.Unstructured) error {
	resource, err := d.resource(one.GroupVersionKind(), one.GetNamespace(), one)
	if err != nil {
		return err
	}
	_, err = resource.Apply(ctx, one.GetName(), one, metav1.ApplyOptions{FieldManager: deployer, Force: true})
	if err != nil {
		return fmt.Errorf("%s %s: %w", one.GetKind(), one.GetName(), err)
	}
	return nil
}

// resource is where objects of a kind live. A namespaced object without a namespace gets "default".
func (d *manifestDeployer) resource(
	kind schema.GroupVersionKind, namespace string, one *unstructured.Unstructured,
) (dynamic.ResourceInterface, error) {
	mapping, err := d.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		d.mapper.Reset()
		mapping, err = d.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return d.client.Resource(mapping.Resource), nil
	}
	if namespace == "" {
		namespace = metav1.NamespaceDefault
		if one != nil {
			one.SetNamespace(namespace)
		}
	}
	return d.client.Resource(mapping.Resource).Namespace(namespace), nil
}

func (d *manifestDeployer) addons() (dynamic.ResourceInterface, error) {
	return d.resource(addonKind, systemSpace, nil)
}

func (d *manifestDeployer) appliedBefore(ctx context.Context, name string) ([]object, error) {
	addons, err := d.addons()
	if err != nil {
		return nil, err
	}
	addon, err := addons.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var applied []object
	if text := addon.GetAnnotations()[appliedNote]; text != "" {
		if err := json.Unmarshal([]byte(text), &applied); err != nil {
			return nil, fmt.Errorf("addon %s: annotation %s: %w", name, appliedNote, err)
		}
	}
	return applied, nil
}

func (d *manifestDeployer) record(ctx context.Context, name, path, checksum string, applied []object) error {
	text, err := json.Marshal(applied)
	if err != nil {
		return err
	}
	addon := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"source": path, "checksum": checksum},
	}}
	addon.SetGroupVersionKind(addonKind)
	addon.SetName(name)
	addon.SetNamespace(systemSpace)
	addon.SetAnnotations(map[string]string{appliedNote: string(text)})
	return d.apply(ctx, addon)
}

func (d *manifestDeployer) deleteAll(ctx context.Context, objects []object) error {
	background := metav1.DeletePropagationBackground
	for _, one := range objects {
		kind := schema.GroupVersionKind{Group: one.Group, Version: one.Version, Kind: one.Kind}
		resource, err := d.resource(kind, one.Namespace, nil)
		if meta.IsNoMatchError(err) {
			continue // its kind has gone, and the object with it
		} else if err != nil {
			return err
		}
		err = resource.Delete(ctx, one.Name, metav1.DeleteOptions{PropagationPolicy: &background})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting %s %s: %w", one.Kind, one.Name, err)
		}
	}
	return nil
}

// decode reads YAML or JSON documents; lists are taken apart.
func decode(content []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	var objects []*unstructured.Unstructured
	for {
		var fields map[string]any
		if err := decoder.Decode(&fields); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(fields) == 0 {
			continue
		}
		one := &unstructured.Unstructured{Object: fields}
		if !one.IsList() {
			objects = append(objects, one)
			continue
		}
		err := one.EachListItem(func(item runtime.Object) error {
			objects = append(objects, item.(*unstructured.Unstructured))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
}

func nameOf(one *unstructured.Unstructured) object {
	kind := one.GroupVersionKind()
	return object{kind.Group, kind.Version, kind.Kind, one.GetNamespace(), one.GetName()}
}

func without(all, less []object) []object {
	return slices.DeleteFunc(slices.Clone(all), func(one object) bool {
		return slices.ContainsFunc(less, func(other object) bool {
			return one.Group == other.Group && one.Kind == other.Kind && one.Namespace == other.Namespace && one.Name == other.Name
		})
	})
}

func union(one, other []object) []object { return append(without(one, other), other...) }
