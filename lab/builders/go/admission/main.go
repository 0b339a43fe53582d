// Program admission tells what ValidatingAdmissionPolicies decide about objects, by the API server's own code for them:
// the same compiler, environment, cost limits and failure policies as in a cluster of the version that go.mod names.
//
// It reads {"policies": [...], "cases": [...]} and writes a list with the messages of those policies that deny, for each
// case. Which resources a policy matches is not looked at: that is left to a cluster.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	v1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
)

type testCase struct {
	Policy      string  `json:"policy"`
	Operation   string  `json:"operation"`
	Subresource string  `json:"subresource"`
	Namespace   string  `json:"namespace"`
	Object      content `json:"object"`
	OldObject   content `json:"oldObject"`
}

// content is an object with its whole numbers as such, as the API server has them.
type content map[string]any

func (c *content) UnmarshalJSON(data []byte) error {
	return utiljson.Unmarshal(data, (*map[string]any)(c))
}

type input struct {
	Policies []v1.ValidatingAdmissionPolicy `json:"policies"`
	Cases    []testCase                     `json:"cases"`
}

var declarations = cel.OptionalVariableDeclarations{HasAuthorizer: true}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var given input
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&given); err != nil {
		return err
	}
	policies := map[string]validating.Validator{}
	for index := range given.Policies {
		compiled, err := compile(&given.Policies[index])
		if err != nil {
			return err
		}
		policies[given.Policies[index].Name] = compiled
	}
	results := make([][]string, len(given.Cases))
	for index, one := range given.Cases {
		policy, found := policies[one.Policy]
		if !found {
			return fmt.Errorf("case %d: no policy %q", index, one.Policy)
		}
		results[index] = denials(policy, one)
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

// compile makes a policy ready, as the plugin does; an expression that does not compile is an error here already.
func compile(policy *v1.ValidatingAdmissionPolicy) (validating.Validator, error) {
	base := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion(), false)
	compiler, err := cel.NewCompositedCompiler(base)
	if err != nil {
		return nil, err
	}
	check := func(what string, expression cel.ExpressionAccessor) error {
		result := compiler.CompileCELExpression(expression, declarations, environment.NewExpressions)
		if result.Error != nil {
			return fmt.Errorf("%s: %s: %w", policy.Name, what, result.Error)
		}
		return nil
	}
	for _, one := range policy.Spec.Variables {
		variable := &validating.Variable{Name: one.Name, Expression: one.Expression}
		if result := compiler.CompileAndStoreVariable(variable, declarations, environment.NewExpressions); result.Error != nil {
			return nil, fmt.Errorf("%s: variable %s: %w", policy.Name, one.Name, result.Error)
		}
	}
	var conditions, validations, messages []cel.ExpressionAccessor
	for index := range policy.Spec.MatchConditions {
		condition := (*matchconditions.MatchCondition)(&policy.Spec.MatchConditions[index])
		if err := check("matchCondition "+condition.Name, condition); err != nil {
			return nil, err
		}
		conditions = append(conditions, condition)
	}
	for _, one := range policy.Spec.Validations {
		validation := &validating.ValidationCondition{Expression: one.Expression, Message: one.Message, Reason: one.Reason}
		message := &validating.MessageExpressionCondition{MessageExpression: one.MessageExpression}
		if err := check("validation", validation); err != nil {
			return nil, err
		}
		if err := check("messageExpression", message); err != nil {
			return nil, err
		}
		validations, messages = append(validations, validation), append(messages, message)
	}
	failure := policy.Spec.FailurePolicy
	filter := func(expressions []cel.ExpressionAccessor) cel.Filter {
		return compiler.Compile(expressions, declarations, environment.StoredExpressions)
	}
	var matcher matchconditions.Matcher
	if len(conditions) > 0 {
		matcher = matchconditions.NewMatcher(filter(conditions), failure, "policy", "validate", policy.Name)
	}
	return validating.NewValidator(filter(validations), matcher, filter(nil), filter(messages), failure), nil
}

// denials evaluates a policy as for a request of an administrator.
func denials(policy validating.Validator, one testCase) []string {
	kind := schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	object, old := object(one.Object), object(one.OldObject)
	attributes := &admission.VersionedAttributes{
		Attributes: admission.NewAttributesRecord(object, old, kind, one.Namespace, "one", resource, one.Subresource,
			admission.Operation(one.Operation), nil, false, &user.DefaultInfo{Name: "admin"}),
		VersionedKind:      kind,
		VersionedObject:    object,
		VersionedOldObject: old,
	}
	namespace := &corev1.Namespace{}
	namespace.Name = one.Namespace
	result := policy.Validate(context.Background(), resource, attributes, nil, namespace, celconfig.RuntimeCELCostBudget, nil)
	messages := []string{}
	for _, decision := range result.Decisions {
		if decision.Action == validating.ActionDeny {
			messages = append(messages, decision.Message)
		}
	}
	return messages
}

func object(from content) runtime.Object {
	if from == nil {
		return nil
	}
	return &unstructured.Unstructured{Object: from}
}
