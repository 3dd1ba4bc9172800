// Command kstatus prints what Flux makes of Kubernetes objects: Current, InProgress, Failed, ...
//
// It reads JSON objects from standard input, and writes one word per line for each.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	log.SetFlags(0)
	for decoder := json.NewDecoder(os.Stdin); ; {
		var document json.RawMessage
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatalf("kstatus: standard input is no JSON: %v", err)
		}
		object := &unstructured.Unstructured{}
		// it alone tells integers from other numbers, as status wants them
		if err := object.UnmarshalJSON(document); err != nil {
			log.Fatalf("kstatus: no object of Kubernetes: %v", err)
		}
		result, err := status.Compute(object)
		if err != nil {
			log.Fatalf("kstatus: %s: %v", object.GetName(), err)
		}
		fmt.Println(result.Status)
	}
}
