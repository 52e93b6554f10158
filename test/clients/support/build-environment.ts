// An environment for builds that are held up: a gate for their steps, and Veneers that build with a BuildKit.
import { containerFile } from './builds.ts';
import { startVeneer } from './daemons.ts';
import { createEnvironment, type Environment } from './environment.ts';
import { type Gate, startGate } from './gate.ts';

export interface BuildEnvironment extends Environment {
  readonly gate: Gate;
  /** A Veneer that builds with the BuildKit at the address; the settings are further keys of its configuration. */
  serve(buildkit: string, settings?: Settings): ReturnType<typeof startVeneer>;
  /** A Containerfile of these steps on the environment's source, in base64. */
  from(...steps: readonly string[]): string;
  /** One with a step that waits at the gate. */
  waitAt(mark: string): string;
}

interface Settings {
  readonly builds?: Readonly<Record<string, unknown>>;
  readonly dataDir?: string;
  readonly listen?: string;
}

export async function createBuildEnvironment(): Promise<BuildEnvironment> {
  const environment = await createEnvironment();
  const gate = await environment.keep(startGate());
  const from = (...steps: readonly string[]) => containerFile(`FROM ${environment.source}`, ...steps);
  return {
    ...environment,
    gate,
    from,
    waitAt: mark => from(`RUN ${gate.command(mark)}`),
    serve(address, { builds, ...settings } = {}) {
      // Its steps wait at a gate on this machine.
      const backends = [{ kind: 'buildkit', address, hostNetwork: true }];
      return environment.keep(
        startVeneer(environment.folder, environment.registry, { ...settings, builds: { backends, ...builds } }),
      );
    },
  };
}
