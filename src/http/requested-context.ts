// The build context of a submit request: files that come with it, or a layer at any place that the caller may read.
import type { Context } from 'hono';
import type { Work } from '../augment/budget.ts';
import type { ContextSource } from '../builds/context/store-context.ts';
import type { OpenLayer } from '../pull/layers/open-layer.ts';
import type { RequestedContext } from './build-schema.ts';
import { toApiError } from './requested-changes.ts';
import { placesOfChanges, type RequireSources } from './source-rights.ts';

interface ReadContextDeps {
  readonly openLayer: OpenLayer;
  readonly requireSources: RequireSources;
}

/** Nothing is read before the source is opened, which throws ApiError. Throws UNAUTHORIZED or DENIED. */
export type ReadContext = (c: Context, context: RequestedContext, work: Work) => ContextSource;

export function createReadContext({ openLayer, requireSources }: ReadContextDeps): ReadContext {
  return (c, context, work) => {
    if (context.kind === 'files') return context;
    const { layer } = context;
    requireSources(c, placesOfChanges({ layers: [layer], includes: [] }));
    const open = () =>
      openLayer(layer, work).catch(error => {
        throw toApiError(error, 'buildContext');
      });
    return { kind: 'tar', open };
  };
}
