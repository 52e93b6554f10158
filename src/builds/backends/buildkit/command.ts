// The command that builds and pushes: a pure function of the build input. It holds no secret: every user can read arguments.
import { formatPlatform } from '../../../oci/platform.ts';
import type { BuildInput, PushTarget } from '../../backend.ts';
import type { ContainerFileSpec } from '../../spec.ts';
import { FILE_NAME, type Workspace } from './workspace.ts';

/** The arguments of `buildctl` after those of the connection. */
export function buildArguments(
  input: BuildInput,
  workspace: Workspace,
  network: ContainerFileSpec['network'] = input.spec.network,
): readonly string[] {
  const { spec, platforms } = input;
  return [
    ...['build', '--frontend', 'dockerfile.v0'],
    ...['--local', `context=${workspace.context}`, '--local', `dockerfile=${workspace.file}`],
    ...['--opt', `filename=${FILE_NAME}`, '--opt', `platform=${platforms.map(formatPlatform).join(',')}`],
    ...['--source-policy-file', workspace.sourcePolicy],
    ...specArguments({ ...spec, network }),
    ...[...workspace.secrets].flatMap(([id, src]) => ['--secret', csvFields({ id, src })]),
    ...[...input.ssh].flatMap(([id, path]) => ['--ssh', `${id}=${path}`]),
    ...cacheArguments(input.cache),
    ...['--output', outputFields(input)],
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
    // No option means no attestation: buildctl adds none by itself.
    ...(sbom ? ['attest:sbom='] : []),
    ...(provenance === 'none' ? [] : [`attest:provenance=mode=${provenance}`]),
  ];
  const allowed = network === 'host' ? ['--allow', 'network.host'] : [];
  return [...options.flatMap(option => ['--opt', option]), ...allowed];
}

/** The form of the result and where it is pushed, as fields of an option. */
export function outputFields({ target, spec: { compression } }: BuildInput): string {
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

/** Where the layer cache is exported to and imported from, as fields of options. */
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

/** One CSV record (RFC 4180) of `key=value` fields; undefined ones are omitted. */
export function csvFields(fields: Readonly<Record<string, string | undefined>>): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => quote(`${key}=${value}`))
    .join(',');
}

function quote(field: string): string {
  return /[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}

/** Build arguments that BuildKit interprets, and that would give the result another form than the spec says. */
const RESERVED = /^BUILDKIT_(?:ATTEST_.*|MULTI_PLATFORM)$/;
/** Linux allows 128 KiB for one argument of a command. */
const MAX_BYTES = 120 * 1024;

/** Why a spec does not fit on a command line; undefined if it does. */
export function findUnsupportedArgument({ args, labels }: ContainerFileSpec): string | undefined {
  const reserved = Object.keys(args).find(name => RESERVED.test(name));
  if (reserved)
    return `the build argument ${reserved} is reserved; attestations and platforms are options of the build`;
  for (const [name, value] of [...Object.entries(args), ...Object.entries(labels)]) {
    if (/[\0=]/.test(name) || value.includes('\0'))
      return `"${name.slice(0, 80)}" has a character that no build argument or label can have`;
    if (Buffer.byteLength(name) + Buffer.byteLength(value) > MAX_BYTES)
      return `the value of "${name.slice(0, 80)}" is over 120 KiB`;
  }
  return undefined;
}
