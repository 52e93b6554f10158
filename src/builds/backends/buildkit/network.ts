// The network of a RUN: one that shares that of this machine reaches our loopback address, as a local user does.
import { findNeeds } from '../../needed-steps.ts';
import type { Tell } from '../../progress.ts';
import type { ContainerFileSpec } from '../../spec.ts';

/** `own`: what the builder gives is no matter of ours. */
export type StepNetwork = 'own' | 'none' | 'host';

const NOTES = {
  own: undefined,
  none: 'a RUN has no network: this builder would give it that of this machine, with its loopback address; `networkMode = "bridge"` in buildkitd.toml gives it one of its own, and `hostNetwork: true` allows it',
  host: 'a RUN has the network of this machine, and reaches what listens on its loopback address',
} as const;

export function listNetworkNotes(network: StepNetwork): readonly string[] {
  const note = NOTES[network];
  return note === undefined ? [] : [note];
}

/** What is to be asked of the builder for what the spec asks for. */
export function networkOf({ network }: ContainerFileSpec, steps: StepNetwork): ContainerFileSpec['network'] {
  return network === 'default' && steps === 'none' ? 'none' : network;
}

/** A frontend of the file's own runs where the builder lets it. */
export function findNetworkObstacle(spec: ContainerFileSpec, steps: StepNetwork): string | undefined {
  const frontend = steps === 'none' ? findNeeds(spec)?.frontend : undefined;
  return frontend && `the frontend ${JSON.stringify(frontend)} would have the network of this machine`;
}

/** Whoever looks for the reason why a step reaches nothing finds it. */
export function tellNetwork(spec: ContainerFileSpec, steps: StepNetwork, tell: Tell): void {
  if (steps !== 'none' || spec.network !== 'default') return;
  if (!findNeeds(spec)?.steps.some(({ kind }) => kind === 'run')) return;
  for (const text of listNetworkNotes(steps)) tell({ kind: 'note', text });
}
