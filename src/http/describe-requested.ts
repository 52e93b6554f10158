// The changes that a submit request wants on top of a build: looked at before it begins, for the image that is not there yet.
import type { Context } from 'hono';
import type { Work } from '../augment/budget.ts';
import type { DescribeChanges, PreparedChanges } from '../pull/prepare.ts';
import type { SubmitRequest } from './augment-schema.ts';
import { checkMediaTypes, hasChanges, toApiError, toChanges } from './requested-changes.ts';
import { placesOfChanges, type RequireSources } from './source-rights.ts';

interface DescribeRequestedDeps {
  readonly describeChanges: DescribeChanges;
  readonly requireSources: RequireSources;
}

/** Undefined where it wants none. Throws ApiError or RegistryError. */
export type DescribeRequested = (
  c: Context,
  request: SubmitRequest,
  work: Work,
) => Promise<PreparedChanges | undefined>;

export function createDescribeRequested({ describeChanges, requireSources }: DescribeRequestedDeps): DescribeRequested {
  return async (c, request, work) => {
    if (!hasChanges(request)) return undefined;
    // The build makes the platforms that are asked for, and its attestations are of what it makes.
    const { layers, includes, changes: all } = toChanges(request, 'keep');
    const { platforms: _, ...changes } = all;
    requireSources(c, placesOfChanges({ layers, includes }));
    const described = await describeChanges({ layers, includes, changes }, work).catch(error => {
      throw toApiError(error, 'containerConfig');
    });
    checkMediaTypes(request.containerConfig?.layers ?? [], described.augmentation.layers);
    return described;
  };
}
