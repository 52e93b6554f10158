// A lab for builds that are held up: a gate for their steps, and Veneers that build with a BuildKit.
import { containerFile } from './builds.ts';
import { startVeneer } from './daemons.ts';
import { type Gate, startGate } from './gate.ts';
import { createLab, type Lab } from './lab.ts';

export interface BuildLab extends Lab {
  readonly gate: Gate;
  /** A Veneer that builds with the BuildKit at the address; the settings are further keys of its configuration. */
  serve(buildkit: string, settings?: Settings): ReturnType<typeof startVeneer>;
  /** A Containerfile of these steps on the lab's source, in base64. */
  from(...steps: readonly string[]): string;
  /** One with a step that waits at the gate. */
  waitAt(mark: string): string;
}

interface Settings {
  readonly builds?: Readonly<Record<string, unknown>>;
  readonly dataDir?: string;
  readonly listen?: string;
}

export async function createBuildLab(): Promise<BuildLab> {
  const lab = await createLab();
  const gate = await lab.keep(startGate());
  const from = (...steps: readonly string[]) => containerFile(`FROM ${lab.source}`, ...steps);
  return {
    ...lab,
    gate,
    from,
    waitAt: mark => from(`RUN ${gate.command(mark)}`),
    serve(address, { builds, ...settings } = {}) {
      // Its steps wait at a gate on this machine.
      const backends = [{ kind: 'buildkit', address, hostNetwork: true }];
      return lab.keep(startVeneer(lab.folder, lab.registry, { ...settings, builds: { backends, ...builds } }));
    },
  };
}
