// Rewrites an image config: what a container runs, and the list of its layers. image-spec config.md.
import { RegistryError } from '../oci/errors.ts';
import { parseImageConfig } from '../oci/image-config.ts';
import type { Augmentation, Layer } from './augmentation.ts';
import { CONFIG, checkNames } from './document.ts';
import { itemsOf, type Json, membersOf, parseJson, toJson, toList, toValue, withMembers, withValues } from './json.ts';

/** The variable that preserves a replaced entrypoint for the new one. */
const ENTRY_CHAIN = 'WAVE_ENTRY_CHAIN';

/** The timestamp of our history entries where the source has none: the current time would change the bytes on each run. */
const EPOCH = '1970-01-01T00:00:00Z';

/**
 * The config with the augmentation applied and `layers` appended; undefined when nothing changes. Throws MANIFEST_INVALID when `raw` is not
 * an image config, or is ambiguous JSON.
 */
export function augmentConfig(raw: Uint8Array, augmentation: Augmentation, layers: readonly Layer[]): Json | undefined {
  parseImageConfig(raw);
  const source = parseJson(raw);
  checkNames(source, CONFIG);
  const changesConfig = changesRun(augmentation);
  if (!changesConfig && layers.length === 0) return undefined;
  const members = membersOf(source);
  return withMembers(source, {
    config: changesConfig ? augmentRun(members.get('config'), augmentation) : undefined,
    rootfs: layers.length > 0 ? extendRootfs(members.get('rootfs'), layers) : undefined,
    history: extendHistory(members, layers.length, changesConfig),
  });
}

/** Throws MANIFEST_INVALID unless the config has as many diffIDs as its manifest has layers: otherwise nothing can be appended. */
export function checkLayerCount(raw: Uint8Array, count: number): void {
  const diffIds = parseImageConfig(raw).rootfs.diff_ids?.length ?? 0;
  if (diffIds === count) return;
  throw new RegistryError(
    'MANIFEST_INVALID',
    `the image cannot be augmented: its config has ${diffIds} diff_ids, but its manifest ${count} layers`,
  );
}

function changesRun(augmentation: Augmentation): boolean {
  const { platforms, layers, annotations, attestations, ...changes } = augmentation;
  return Object.values(changes).some(change => change !== undefined);
}

function augmentRun(run: Json | undefined, augmentation: Augmentation): Json {
  const members = membersOf(run);
  const { entrypoint, cmd, workingDir, user, labels, exposedPorts } = augmentation;
  const env = { ...entryChain(members.get('Entrypoint'), augmentation), ...augmentation.env };
  const ports = Object.fromEntries((exposedPorts ?? []).map(port => [port, {}]));
  return withMembers(run, {
    Env: Object.keys(env).length > 0 ? overrideEnv(itemsOf(members.get('Env')), env) : undefined,
    Entrypoint: entrypoint && toJson(entrypoint),
    Cmd: cmd && toJson(cmd),
    WorkingDir: workingDir === undefined ? undefined : toJson(workingDir),
    User: user === undefined ? undefined : toJson(user),
    Labels: labels && withValues(members.get('Labels'), labels),
    ExposedPorts: exposedPorts && withValues(members.get('ExposedPorts'), ports),
  });
}

function entryChain(entrypoint: Json | undefined, augmentation: Augmentation): Record<string, string> {
  const word = toValue(entrypoint);
  const replaced = typeof word === 'string' ? [word] : itemsOf(entrypoint).map(toValue);
  if (!augmentation.entrypoint || replaced.length === 0) return {};
  return { [ENTRY_CHAIN]: replaced.length === 1 ? String(replaced[0]) : JSON.stringify(replaced) };
}

function overrideEnv(source: readonly Json[], env: Readonly<Record<string, string>>): Json {
  const nameOf = (entry: Json) => String(toValue(entry)).split('=', 1)[0] ?? '';
  const entryOf = (name: string) => toJson(`${name}=${env[name]}`);
  const present = new Set(source.map(nameOf));
  const overridden = source.map(entry => (Object.hasOwn(env, nameOf(entry)) ? entryOf(nameOf(entry)) : entry));
  const added = Object.keys(env).filter(name => !present.has(name));
  return toList([...overridden, ...added.map(entryOf)]);
}

function extendRootfs(rootfs: Json | undefined, layers: readonly Layer[]): Json {
  const diffIds = itemsOf(membersOf(rootfs).get('diff_ids'));
  const type = toValue(membersOf(rootfs).get('type')) ?? 'layers';
  return withMembers(rootfs, {
    type: toJson(type),
    diff_ids: toList([...diffIds, ...layers.map(({ diffId }) => toJson(diffId))]),
  });
}

/** A source that has layers but no history stays without one: entries for only some layers would be attributed to the lowest ones. */
function extendHistory(
  source: ReadonlyMap<string, Json>,
  layerCount: number,
  changesConfig: boolean,
): Json | undefined {
  const history = itemsOf(source.get('history'));
  const hasLayers = itemsOf(membersOf(source.get('rootfs')).get('diff_ids')).length > 0;
  const listsLayers = history.some(entry => membersOf(entry).get('empty_layer')?.text !== 'true');
  // Only Go clients accept null as a list.
  if (hasLayers && !listsLayers) return source.get('history')?.text === 'null' ? toList([]) : undefined;
  const written = toValue(source.get('created'));
  const created = typeof written === 'string' ? written : EPOCH;
  const entry = { created, created_by: 'veneer' };
  const added = Array.from({ length: layerCount }, () => ({ ...entry, comment: 'layer' }));
  const config = changesConfig ? [{ ...entry, comment: 'config', empty_layer: true }] : [];
  return toList([...history, ...[...added, ...config].map(toJson)]);
}
