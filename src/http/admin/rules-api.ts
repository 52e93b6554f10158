// The rules over HTTP: the active ones, and their effect on an image.
import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { platformSchema } from '../../oci/config-fields.ts';
import { parseReference, type Reference } from '../../oci/reference.ts';
import type { Origins } from '../../pull/origin.ts';
import type { Explain } from '../../pull/rules/explain.ts';
import type { Explanation, RuleList } from '../../rules/explanation.ts';
import { ANONYMOUS } from '../../rules/rule-set.ts';
import type { RequireSources } from '../../submit/changes.ts';
import { ApiError, toSourceError } from '../../submit/errors.ts';
import { callerName, callerOf, isAdmin, requireAdmin } from '../middleware/authentication.ts';
import { checkImage } from '../wave/submit-schema.ts';

const NO_STORE = { 'Cache-Control': 'no-store' };

export function createRulesApi(deps: {
  readonly explain: Explain;
  readonly listRules: () => RuleList;
  readonly origins: Pick<Origins, 'isOwn'>;
  readonly requireSources: RequireSources;
}): Hono {
  const { explain, listRules, origins, requireSources } = deps;
  const app = new Hono();

  app.get('/v1/rules', c => {
    requireAdmin(c);
    return c.json(listRules(), 200, NO_STORE);
  });

  app.get('/v1/rules/explain', async c => {
    const { image, platform, caller } = parseQuery(c);
    const reference = parseImage(image, origins);
    requireSources(callerOf(c), [reference]);
    const own = callerName(c) ?? ANONYMOUS;
    const asked = caller ?? own;
    // The results for other callers are for administrators only.
    if (asked !== own) requireAdmin(c);
    const options = { platform, caller: asked === ANONYMOUS ? undefined : asked, signal: c.req.raw.signal };
    try {
      const explanation = await explain(reference, options);
      return c.json(isAdmin(c) ? explanation : ownPart(explanation), 200, NO_STORE);
    } catch (error) {
      throw toSourceError(error, image);
    }
  });
  return app;
}

/** What concerns the caller that pulls the image: without the locations of layers, and rules for others. */
export function ownPart({ rules, platforms, ...rest }: Explanation): Explanation {
  return {
    ...rest,
    rules: rules.filter(({ applies }) => applies),
    platforms: platforms.map(({ layers, ...image }) => ({
      ...image,
      layers: layers.map(({ digest, size, rule, moved }) => ({ digest, size, rule, ...(moved && { moved }) })),
    })),
  };
}

const MAX_IMAGE = 512;
const MAX_CALLER = 255;

function single(maxCharacters: number) {
  return z
    .array(z.string(), 'must be given')
    .length(1, 'is given more than once')
    .transform(([text = '']) => text)
    .pipe(z.string().min(1, 'is empty').max(maxCharacters, `has more than ${maxCharacters} characters`));
}

const querySchema = z.strictObject({
  image: single(MAX_IMAGE),
  platform: single(MAX_IMAGE).pipe(platformSchema).optional(),
  caller: single(MAX_CALLER).optional(),
});

/** Throws ApiError, which names the parameter. */
function parseQuery(c: Context): z.output<typeof querySchema> {
  const { data, error } = querySchema.safeParse(c.req.queries());
  if (data !== undefined) return data;
  const faults = error?.issues.map(({ path, message }) => [path.join('.'), message].filter(Boolean).join(': '));
  throw new ApiError(400, `invalid query: ${faults?.join('; ').slice(0, 500)}`);
}

/** Throws ApiError. */
export function parseImage(image: string, { isOwn }: Pick<Origins, 'isOwn'>): Reference {
  checkImage('image', image);
  const reference = parseReference(image);
  const { registry, repository } = reference;
  // No upstream is contacted for it: it would learn a token.
  if (repository.startsWith('wt/') && (registry === undefined || isOwn(registry))) {
    throw new ApiError(
      400,
      'image: an image of a token keeps the rules that were active when it was issued: name its source image',
    );
  }
  return reference;
}
