// The rules of the service, as docs/api.md has them. Every function throws ServiceRefused.
import type { z } from 'zod';
import { type Explanation, explanationSchema, type RuleList, ruleListSchema } from '../../rules/explanation.ts';
import { parseAnswer } from './builds.ts';
import { type Hints, refusalOf } from './refusal.ts';
import { type Service, ServiceRefused, sendRequest } from './service.ts';

interface ExplainQuery {
  readonly image: string;
  readonly platform?: string | undefined;
  readonly caller?: string | undefined;
}

const EXPLAIN_HINT =
  'set VENEER_TOKEN to a token that may pull it; for --caller, to one that may delete in all repositories';
const LIST_HINT = 'set VENEER_TOKEN to a token that may delete in all repositories';

export function explainRules(service: Service, { image, platform, caller }: ExplainQuery): Promise<Explanation> {
  const query = new URLSearchParams({ image, ...(platform && { platform }), ...(caller && { caller }) });
  return ask(service, explanationSchema, { path: `/v1/rules/explain?${query}`, hint: EXPLAIN_HINT });
}

export function listRules(service: Service): Promise<RuleList> {
  return ask(service, ruleListSchema, { path: '/v1/rules', hint: LIST_HINT });
}

interface Asked {
  readonly path: string;
  /** What helps who may not. */
  readonly hint: string;
}

async function ask<T>(service: Service, schema: z.ZodType<T>, { path, hint }: Asked): Promise<T> {
  const response = await sendRequest(service, path);
  const hints: Hints = { 401: hint, 403: hint };
  if (!response.ok) throw await refusalOf(response, hints);
  const { host } = service.url;
  const text = await response.text().catch(cause => {
    throw new ServiceRefused(`${host} broke off`, { cause, isPassing: true });
  });
  return parseAnswer(schema, text, host);
}
