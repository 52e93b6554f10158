// What a registry of a few repositories holds, as simply as it can be said: the model that the real one is held against.

/** Blobs and manifests are known by their number, as are the tags of `TAGS`. */
export type Operation =
  | { readonly kind: 'push'; readonly repository: string; readonly blob: number }
  | { readonly kind: 'mount'; readonly repository: string; readonly from: string | undefined; readonly blob: number }
  | { readonly kind: 'deleteBlob'; readonly repository: string; readonly blob: number }
  | { readonly kind: 'put'; readonly repository: string; readonly manifest: number; readonly tags: readonly string[] }
  | { readonly kind: 'deleteManifest'; readonly repository: string; readonly manifest: number }
  | { readonly kind: 'deleteTag'; readonly repository: string; readonly tag: string }
  | { readonly kind: 'abandon'; readonly repository: string; readonly blob: number }
  | { readonly kind: 'crash'; readonly repository: string; readonly blob: number }
  | { readonly kind: 'restart' };

interface RepositoryModel {
  readonly blobs: Set<number>;
  readonly manifests: Set<number>;
  readonly tags: Map<string, number>;
}

/** What comes of an operation: the code of an error, or what it says. */
export type Outcome = string | boolean | undefined;

export interface Model {
  readonly repositories: ReadonlyMap<string, RepositoryModel>;
  apply(operation: Operation): Outcome;
}

/** `needs` says which blobs a manifest refers to. */
export function createModel(names: readonly string[], needs: readonly (readonly number[])[]): Model {
  const repositories = new Map(
    names.map(name => [
      name,
      { blobs: new Set<number>(), manifests: new Set<number>(), tags: new Map<string, number>() },
    ]),
  );
  const of = (name: string): RepositoryModel => {
    const repository = repositories.get(name);
    if (!repository) throw new Error(`no repository ${name}`);
    return repository;
  };
  const absent = (name: string, code: string) =>
    of(name).blobs.size + of(name).manifests.size > 0 ? code : 'NAME_UNKNOWN';

  function apply(operation: Operation): Outcome {
    switch (operation.kind) {
      case 'push':
        of(operation.repository).blobs.add(operation.blob);
        return undefined;
      case 'mount': {
        const isThere = [...repositories.values()].some(({ blobs }) => blobs.has(operation.blob));
        if (isThere) of(operation.repository).blobs.add(operation.blob);
        return isThere;
      }
      case 'deleteBlob': {
        const { blobs, manifests } = of(operation.repository);
        if (!blobs.has(operation.blob)) return 'BLOB_UNKNOWN';
        if ([...manifests].some(manifest => needs[manifest]?.includes(operation.blob))) return 'UNSUPPORTED';
        blobs.delete(operation.blob);
        return undefined;
      }
      case 'put': {
        const { blobs, manifests, tags } = of(operation.repository);
        if (!needs[operation.manifest]?.every(blob => blobs.has(blob))) return 'MANIFEST_BLOB_UNKNOWN';
        manifests.add(operation.manifest);
        for (const tag of operation.tags) tags.set(tag, operation.manifest);
        return undefined;
      }
      case 'deleteManifest': {
        const { manifests, tags } = of(operation.repository);
        if (!manifests.has(operation.manifest)) return absent(operation.repository, 'MANIFEST_UNKNOWN');
        manifests.delete(operation.manifest);
        for (const [tag, manifest] of tags) if (manifest === operation.manifest) tags.delete(tag);
        return undefined;
      }
      case 'deleteTag': {
        const { tags } = of(operation.repository);
        return tags.delete(operation.tag) ? undefined : absent(operation.repository, 'MANIFEST_UNKNOWN');
      }
      case 'abandon':
      case 'crash':
      case 'restart':
        return undefined;
    }
  }

  return { repositories, apply };
}
