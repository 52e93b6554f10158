// What clients did and were told, and what may be true after that, whatever the order in which it came about.
import { digestOf } from '../../../src/oci/digest.ts';
import { type Action, blobOf, documentOf } from './clients.ts';

export interface Event {
  readonly action: Action;
  readonly startedAt: number;
  /** After this it did nothing more. */
  endedAt: number;
  /** Nobody was told how a call ended that met a crash; one that failed may have come about in part. */
  outcome: 'done' | 'refused' | 'unknown';
  error?: unknown;
}

/** Where a tag may point; `undefined` for nowhere. `hasRetention`: a collection may have removed it. */
export function possibleTargets(history: readonly Event[], key: string, hasRetention: boolean) {
  const changes = [
    { value: undefined, startedAt: -1, endedAt: -1, isSure: true },
    ...history.flatMap(event => changesOf(event, key, hasRetention)),
  ];
  const sure = changes.filter(({ isSure }) => isSure);
  const possible = changes.filter(change => !sure.some(later => later.startedAt > change.endedAt));
  return new Set(possible.map(({ value }) => value));
}

function changesOf({ action, startedAt, endedAt, outcome }: Event, key: string, hasRetention: boolean) {
  if (outcome === 'refused') return [];
  const change = (value: string | undefined, isSure: boolean) => [{ value, startedAt, endedAt, isSure }];
  const isOfTag = 'repository' in action && key.startsWith(`${action.repository}:`);
  const tag = key.slice(key.indexOf(':') + 1);
  switch (action.kind) {
    case 'push':
      if (!isOfTag || !action.tags.some(pushed => pushed === tag)) return [];
      return change(digestOf(documentOf(action.document).raw), outcome === 'done');
    case 'deleteTag':
      return isOfTag && action.tag === tag ? change(undefined, outcome === 'done') : [];
    case 'deleteManifest':
      return isOfTag ? change(undefined, false) : [];
    case 'collect':
      return hasRetention && !action.dryRun ? change(undefined, false) : [];
    default:
      return [];
  }
}

/** Links that a client may have deleted by their names. */
export function deletedBy(history: readonly Event[]): ReadonlySet<string> {
  const links = history.flatMap(({ action, outcome }) => {
    if (outcome === 'refused') return [];
    if (action.kind === 'deleteManifest') return [`${action.repository}@${digestOf(documentOf(action.document).raw)}`];
    return action.kind === 'deleteBlob' ? [`${action.repository}@${digestOf(blobOf(action.blob))}`] : [];
  });
  return new Set(links);
}

/** Links of the manifests that were pushed, as their clients were told. */
export function pushedBy(history: readonly Event[]): readonly string[] {
  return history.flatMap(({ action, outcome }) =>
    action.kind === 'push' && outcome === 'done'
      ? [`${action.repository}@${digestOf(documentOf(action.document).raw)}`]
      : [],
  );
}
