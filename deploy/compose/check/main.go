// Reads compose.yaml as Docker Compose does, with its own loader, and holds every service to what the region needs:
// nothing may be writable, privileged, reachable or secret that need not be.
//
//	check COMPOSE_FILE ENV_FILE
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

var passed, failed int

func hold(service, rule string, kept bool) {
	if kept {
		passed++
		return
	}
	failed++
	fmt.Fprintf(os.Stderr, "compose: %s: %s\n", service, rule)
}

func main() {
	options, err := cli.NewProjectOptions([]string{os.Args[1]}, cli.WithEnvFiles(os.Args[2]), cli.WithDotEnv)
	if err != nil {
		fail(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		fail(err)
	}
	for _, name := range project.ServiceNames() {
		check(project, project.Services[name])
	}
	hold("networks", "inside has to be internal", project.Networks["inside"].Internal)
	for name, secret := range project.Secrets {
		hold(name, "has to be a file of secrets/", strings.Contains(secret.File, "/secrets/"))
	}
	fmt.Printf("compose: %d services, %d networks, %d secrets\n", len(project.Services), len(project.Networks), len(project.Secrets))
	fmt.Printf("compose: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

func check(project *types.Project, service types.ServiceConfig) {
	name := service.Name
	hold(name, "read_only", service.ReadOnly)
	hold(name, "cap_drop: [ALL], and none added", slices.Equal(service.CapDrop, []string{"ALL"}) && len(service.CapAdd) == 0)
	hold(name, "no-new-privileges", slices.Contains(service.SecurityOpt, "no-new-privileges:true"))
	hold(name, "privileged", !service.Privileged)
	hold(name, "a user that is not root", service.User != "" && !strings.HasPrefix(service.User, "0"))
	hold(name, "a bound on processes", service.PidsLimit > 0)
	hold(name, "no core files", service.Ulimits["core"] != nil && service.Ulimits["core"].Single == 0)
	hold(name, "an image", service.Image != "")
	networks := service.NetworksByPriority()
	hold(name, "networks of its own, and not the default one", len(networks) > 0 && !slices.Contains(networks, "default"))

	isJob := service.Restart == "no"
	hold(name, "restart", isJob || service.Restart == "unless-stopped")
	hold(name, "a log with a bound", service.Logging != nil && service.Logging.Options["max-size"] != "")
	isOurs := service.Image == project.Environment["IMAGE"]
	hold(name, "a health check, or a probe that asks it", isJob || service.HealthCheck != nil || probed(project, service, isOurs))

	for key, value := range service.Environment {
		text := strings.ToUpper(key)
		isPath := value != nil && strings.HasPrefix(strings.Trim(*value, `[]'"`), "/run/secrets/")
		isSecret := strings.Contains(text, "PASSWORD") || strings.Contains(text, "TOKEN") || strings.Contains(text, "KEY")
		hold(name, "environment "+key+": a secret is a file", !isSecret || isPath || (value != nil && *value == "[]"))
	}
	for _, volume := range service.Volumes {
		hold(name, volume.Target+": what is not its own data is read-only", volume.Type == types.VolumeTypeVolume || volume.ReadOnly)
	}
	for _, port := range service.Ports {
		mayBePublished := name == "gateway" || port.HostIP == "127.0.0.1"
		hold(name, "port "+port.Published+": only the gateway is reached from elsewhere", mayBePublished)
	}
}

// Whether the probe's command names the service, and both are in one network.
func probed(project *types.Project, service types.ServiceConfig, isOurs bool) bool {
	probe := project.Services["probe"]
	if !isOurs || probe.HealthCheck == nil {
		return false
	}
	_, shared := service.Networks["inside"]
	return shared && strings.Contains(strings.Join(probe.HealthCheck.Test, " "), service.Name)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "compose:", err)
	os.Exit(1)
}
