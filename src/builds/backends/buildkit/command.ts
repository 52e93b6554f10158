// The command that builds and pushes: a pure function of the order. Nothing in it is secret: everyone can read arguments.
import { formatPlatform } from '../../../oci/platform.ts';
import type { BuildOrder, PushTarget } from '../../backend.ts';
import type { ContainerFileSpec } from '../../spec.ts';
import { csvFields } from './csv.ts';
import { FILE_NAME, type Workspace } from './workspace.ts';

/** The arguments of `buildctl` after those of the connection. */
export function buildArguments(
  order: BuildOrder,
  workspace: Workspace,
  network: ContainerFileSpec['network'] = order.spec.network,
): readonly string[] {
  const { spec, platforms } = order;
  return [
    ...['build', '--frontend', 'dockerfile.v0'],
    ...['--local', `context=${workspace.context}`, '--local', `dockerfile=${workspace.file}`],
    ...['--opt', `filename=${FILE_NAME}`, '--opt', `platform=${platforms.map(formatPlatform).join(',')}`],
    ...['--source-policy-file', workspace.sourcePolicy],
    ...specArguments({ ...spec, network }),
    ...[...workspace.secrets].flatMap(([id, src]) => ['--secret', csvFields({ id, src })]),
    ...[...order.ssh].flatMap(([id, path]) => ['--ssh', `${id}=${path}`]),
    ...cacheArguments(order.cache),
    ...['--output', outputFields(order)],
    ...['--progress', 'rawjson', '--metadata-file', workspace.metadata],
  ];
}

function specArguments({ args, labels, stage, network, attestations }: ContainerFileSpec): readonly string[] {
  const { sbom, provenance } = attestations;
  const options = [
    ...Object.entries(args).map(([name, value]) => `build-arg:${name}=${value}`),
    ...Object.entries(labels).map(([name, value]) => `label:${name}=${value}`),
    ...(stage === undefined ? [] : [`target=${stage}`]),
    ...(network === 'default' ? [] : [`force-network-mode=${network}`]),
    // Nothing asks for none of them: buildctl adds no attestation by itself.
    ...(sbom ? ['attest:sbom='] : []),
    ...(provenance === 'none' ? [] : [`attest:provenance=mode=${provenance}`]),
  ];
  const allowed = network === 'host' ? ['--allow', 'network.host'] : [];
  return [...options.flatMap(option => ['--opt', option]), ...allowed];
}

/** What is made and where it is pushed, as fields of an option. */
export function outputFields({ target, spec: { compression } }: BuildOrder): string {
  return csvFields({
    type: 'image',
    name: target.name,
    push: 'true',
    'oci-mediatypes': 'true',
    compression: compression?.mode,
    'compression-level': compression?.level?.toString(),
    'force-compression': compression?.force?.toString(),
    'registry.insecure': insecure(target),
  });
}

function cacheArguments(cache: PushTarget | undefined): readonly string[] {
  if (!cache) return [];
  const { to, from } = cacheFields(cache);
  return ['--export-cache', to, '--import-cache', from];
}

/** Where the layer cache goes to and comes from, as fields of an option. */
export function cacheFields(cache: PushTarget): { readonly to: string; readonly from: string } {
  const place = { ref: cache.name, 'registry.insecure': insecure(cache) };
  const form = { mode: 'max', 'image-manifest': 'true', 'oci-mediatypes': 'true' };
  return {
    to: csvFields({ type: 'registry', ...form, ...place }),
    from: csvFields({ type: 'registry', ...place }),
  };
}

function insecure({ isInsecure }: PushTarget): 'true' | undefined {
  return isInsecure ? 'true' : undefined;
}
