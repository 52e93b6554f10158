// The command that builds and pushes: a pure function of the order. Nothing in it is secret: everyone can read arguments.
import { join } from 'node:path';
import { formatPlatform } from '../../../oci/platform.ts';
import type { BuildOrder } from '../../backend.ts';
import type { ContainerFileSpec } from '../../spec.ts';
import { cacheFields, outputFields } from '../buildkit/command.ts';
import { csvFields } from '../buildkit/csv.ts';
import { FILE_NAME, type Workspace } from '../buildkit/workspace.ts';

interface CommandOptions {
  /** Absent: the one that is in use. */
  readonly builder: string | undefined;
  readonly hasCacheExport: boolean;
  /** Of a RUN. */
  readonly network: ContainerFileSpec['network'];
}

/** The arguments of buildx. */
export function buildArguments(
  order: BuildOrder,
  workspace: Workspace,
  { builder, hasCacheExport, network }: CommandOptions,
): readonly string[] {
  const { spec, platforms, ssh, cache } = order;
  const layers = cache && hasCacheExport ? cacheFields(cache) : undefined;
  return [
    ...['build', ...(builder === undefined ? [] : ['--builder', builder])],
    ...['--file', join(workspace.file, FILE_NAME), '--platform', platforms.map(formatPlatform).join(',')],
    ...specArguments({ ...spec, network }),
    ...[...workspace.secrets].flatMap(([id, src]) => ['--secret', csvFields({ id, src })]),
    ...[...ssh].flatMap(([id, path]) => ['--ssh', `${id}=${path}`]),
    ...(layers ? ['--cache-to', layers.to, '--cache-from', layers.from] : []),
    ...['--output', outputFields(order), '--metadata-file', workspace.metadata, '--progress', 'rawjson'],
    workspace.context,
  ];
}

function specArguments({ args, labels, stage, network, attestations }: ContainerFileSpec): readonly string[] {
  const { sbom, provenance } = attestations;
  return [
    ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
    ...Object.entries(labels).flatMap(([name, value]) => ['--label', `${name}=${value}`]),
    ...(stage === undefined ? [] : ['--target', stage]),
    ...(network === 'default' ? [] : ['--network', network]),
    ...(network === 'host' ? ['--allow', 'network.host'] : []),
    // Unasked, buildx adds a provenance, and makes an index of one image.
    ...[`--sbom=${sbom}`, `--provenance=${provenance === 'none' ? 'false' : `mode=${provenance}`}`],
  ];
}
